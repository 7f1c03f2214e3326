package guest

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// echo is a TCP server on loopback that sends back what it gets: traffic for the guest.
type echo struct {
	l    net.Listener
	done sync.WaitGroup
}

func listenEcho() (*echo, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the guest's traffic: %w", err)
	}
	e := &echo{l: l}
	e.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.done.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	return e, nil
}

func (e *echo) addr() net.Addr { return e.l.Addr() }

// close ends the server and waits for its connections, which end with the guest.
func (e *echo) close() {
	e.l.Close()
	e.done.Wait()
}

// guestAddress is how the guest reaches a server on the host's loopback.
func guestAddress(a net.Addr) string {
	return fmt.Sprintf("%s:%d", hostAddress, a.(*net.TCPAddr).Port)
}
