package guest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// monitor speaks to QEMU's machine protocol (QMP) over a unix socket.
type monitor struct {
	conn  net.Conn
	lines *bufio.Scanner
}

// dialMonitor connects and leaves the negotiation mode that QMP begins with.
func dialMonitor(path string) (*monitor, error) {
	conn, err := net.DialTimeout("unix", path, 5*time.Second)
	if err != nil {
		return nil, fmt.Errorf("dial the machine's monitor: %w", err)
	}
	m := &monitor{conn: conn, lines: bufio.NewScanner(conn)}
	m.lines.Buffer(nil, 1<<20)
	if !m.lines.Scan() {
		conn.Close()
		return nil, fmt.Errorf("the machine's monitor does not greet: %w", m.lines.Err())
	}
	if err := m.execute("qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

// execute runs a command and waits for its answer; events in between are passed over.
func (m *monitor) execute(command string, arguments map[string]any) error {
	q := map[string]any{"execute": command}
	if arguments != nil {
		q["arguments"] = arguments
	}
	_ = m.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := json.NewEncoder(m.conn).Encode(q); err != nil {
		return fmt.Errorf("monitor: send %s: %w", command, err)
	}
	for m.lines.Scan() {
		var r struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := json.Unmarshal(m.lines.Bytes(), &r); err != nil {
			return fmt.Errorf("monitor: answer to %s: %w", command, err)
		}
		if r.Error != nil {
			return fmt.Errorf("monitor: %s: %s", command, r.Error.Desc)
		}
		if r.Return != nil {
			return nil
		}
	}
	return fmt.Errorf("monitor: no answer to %s: %w", command, m.lines.Err())
}

// set gives a property of a device a new value.
func (m *monitor) set(device, property string, value any) error {
	return m.execute("qom-set", map[string]any{"path": device, "property": property, "value": value})
}

func (m *monitor) close() error { return m.conn.Close() }
