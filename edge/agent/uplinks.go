package agent

import (
	"context"
	"fmt"

	"github.com/strata-edge/strata/edge/upload"
	"github.com/strata-edge/strata/edge/upload/mqtt"
	"github.com/strata-edge/strata/edge/upload/otlp"
)

// drain is one uplink that takes findings from the buffer.
type drain struct {
	name   string
	sender upload.Sender
	loop   *upload.Drain
}

func (a *Agent) openUplinks(ctx context.Context) error {
	if c := a.cfg.MQTT; c.URL != "" {
		client, err := mqtt.New(mqtt.Config{
			URL: c.URL, Device: a.device, Version: a.opt.Version,
			UsernameFile: c.Username, PasswordFile: c.Password,
			CAFile: c.CA, CertFile: c.Cert, KeyFile: c.Key,
			Sequence: func() (uint64, error) { return a.queue.Count("mqtt.connections") },
			Logger:   a.log,
		})
		if err != nil {
			return fmt.Errorf("mqtt: %w", err)
		}
		a.mqtt = client
		a.drains = append(a.drains, drain{name: "mqtt", sender: client})
		a.status.Uplinks = append(a.status.Uplinks, c.URL)
	}
	if c := a.cfg.OTLP; c.URL != "" {
		client, err := otlp.New(ctx, otlp.Config{
			URL: c.URL, Device: a.device, Version: a.opt.Version, HeadersFile: c.Headers, CAFile: c.CA,
			Period: c.Interval, Logger: a.log,
		})
		if err != nil {
			return fmt.Errorf("otlp: %w", err)
		}
		a.otlp = client
		a.drains = append(a.drains, drain{name: "otlp", sender: client})
		a.status.Uplinks = append(a.status.Uplinks, c.URL)
	}
	return nil
}

// joinUplinks gives each uplink its way through the buffer.
func (a *Agent) joinUplinks() error {
	for i := range a.drains {
		d := &a.drains[i]
		cursor, err := a.queue.Sink(d.name)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		d.loop = upload.New(upload.Config{Name: d.name, Logger: a.log}, cursor, d.sender)
	}
	return nil
}

func (a *Agent) startUplinks(part func(name string, run func(context.Context) error)) {
	for i := range a.drains {
		part(a.drains[i].name+" drain", a.drains[i].loop.Run)
	}
	if a.mqtt != nil {
		part("mqtt", a.mqtt.Run)
	}
	if a.otlp != nil {
		part("otlp", func(ctx context.Context) error { return a.otlp.Run(ctx, a.metrics) })
	}
}
