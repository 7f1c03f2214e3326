// Package capture reads pcap and pcapng files and hands out Ethernet frames, for the
// replay of captures through the kernel programs.
//
// Captures of other link layers that carry IP (raw IP, Linux cooked, loopback, PPP) get
// an Ethernet header made for them, since the programs of a replay parse Ethernet; the
// header's bytes are not counted in OrigLen's difference to the capture: see Packet.
// Frames of any other link layer come out as skipped, with their lengths.
//
// The reader is our own: it must not allocate for a packet, must bound what a hostile
// length can make it allocate, and must give everything up to the place where a damaged
// file breaks. A Reader belongs to one goroutine.
package capture
