package mqtt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t testing.TB, name, text string, mode os.FileMode) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return p
}

func TestEndpoint(t *testing.T) {
	for url, want := range map[string]string{
		"mqtt://broker":            "tcp://broker:1883",
		"tcp://192.0.2.1:77":       "tcp://192.0.2.1:77",
		"mqtts://broker/":          "ssl://broker:8883",
		"ssl://[2001:db8::1]":      "ssl://[2001:db8::1]:8883",
		"tls://[2001:db8::1]:8884": "ssl://[2001:db8::1]:8884",
	} {
		c := Config{URL: url}
		if got, _, _, err := c.endpoint(); err != nil || got != want {
			t.Errorf("%s: %q, %v", url, got, err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	open := write(t, "password", "secret\n", 0o644)
	two := write(t, "user", "a\nb\n", 0o600)
	good := write(t, "user", "a\n", 0o600)
	junk := write(t, "ca.pem", "no certificate", 0o600)
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{URL: "http://x", Device: "d"}, "scheme"},
		{Config{URL: "mqtt://user:secret@x", Device: "d"}, "files"},
		{Config{URL: "mqtt://user:sec\x7fret@x", Device: "d"}, "not a URL"},
		{Config{URL: "mqtt://", Device: "d"}, "want scheme"},
		{Config{URL: "mqtt://x/path", Device: "d"}, "want scheme"},
		{Config{URL: "mqtt://x"}, "topic level"},
		{Config{URL: "mqtt://x", Device: "a/b"}, "topic level"},
		{Config{URL: "mqtt://x", Device: "a#"}, "topic level"},
		{Config{URL: "mqtt://x", Device: "d", CAFile: junk}, "mqtts"},
		{Config{URL: "mqtts://x", Device: "d", CAFile: junk}, "no certificate in it"},
		{Config{URL: "mqtts://x", Device: "d", CertFile: junk}, "belong together"},
		{Config{URL: "mqtt://x", Device: "d", PasswordFile: good}, "user name"},
		{Config{URL: "mqtt://x", Device: "d", UsernameFile: good, PasswordFile: open}, "0600"},
		{Config{URL: "mqtt://x", Device: "d", UsernameFile: two}, "one line"},
		{Config{URL: "mqtt://x", Device: "d", UsernameFile: "/nonexistent/user"}, "no such file"},
		{Config{URL: "mqtt://x", Device: "d", UsernameFile: t.TempDir()}, "regular"},
	} {
		_, err := New(c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "sec") && strings.Contains(c.cfg.URL, "sec") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}
