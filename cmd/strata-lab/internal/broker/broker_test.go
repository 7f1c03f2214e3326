package broker

import (
	"context"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

func TestMessagesArriveInOrder(t *testing.T) {
	b, err := Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	got := make(chan string, 8)
	done := make(chan error, 1)
	go func() {
		done <- Subscribe(ctx, b.URL(), "strata/#", func(topic string, payload []byte) { got <- topic + "=" + string(payload) })
	}()

	c := paho.NewClient(paho.NewClientOptions().AddBroker(b.URL()).SetClientID("publisher"))
	if tok := c.Connect(); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		t.Fatal("connect:", tok.Error())
	}
	defer c.Disconnect(10)
	// A retained message reaches the subscriber whenever it subscribes; the others follow it.
	c.Publish("strata/a", 1, true, "1").Wait()
	if g := <-got; g != "strata/a=1" {
		t.Fatalf("got %q", g)
	}
	for _, p := range []string{"2", "3", "4"} {
		c.Publish("strata/b", 1, false, p).Wait()
	}
	for _, want := range []string{"strata/b=2", "strata/b=3", "strata/b=4"} {
		if g := <-got; g != want {
			t.Fatalf("got %q, want %q", g, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestLostBrokerIsAnError(t *testing.T) {
	b, err := Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	up := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() {
		done <- Subscribe(ctx, b.URL(), "#", func(string, []byte) {
			select {
			case up <- struct{}{}:
			default:
			}
		})
	}()
	c := paho.NewClient(paho.NewClientOptions().AddBroker(b.URL()).SetClientID("publisher").SetAutoReconnect(false))
	if tok := c.Connect(); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		t.Fatal("connect:", tok.Error())
	}
	c.Publish("x", 1, true, "1").Wait()
	<-up
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Fatal("a lost broker must be reported")
	}
	c.Disconnect(10)
}
