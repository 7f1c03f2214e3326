// Package broker gives the fault lab an MQTT broker and a subscriber of its own, so that
// findings can be read where a fleet console reads them. Both the host stage and the
// guest stage use it.
//
// A Broker lives from Start to Close and keeps nothing on disk. Subscribe blocks until its
// context ends. Both may be used from several goroutines.
package broker
