package host

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// appScenarios are the faults of layers 6 and 7.
func appScenarios() []*Scenario {
	cert := func(kind, class string) func(context.Context, *Stage, *rand.Rand) (*Fault, error) {
		return func(_ context.Context, st *Stage, _ *rand.Rand) (*Fault, error) {
			return st.serverFault(svcTLS, mode{Cert: kind}, describe(st, svcTLS)+tlsVersion(st), 2, class)
		}
	}
	return []*Scenario{
		{Name: "cert-expired", Title: "the certificate has expired", Layer: 6,
			Causes: []string{"l6.certificate.invalid"}, Default: true, inject: cert(certExpired, classExpired)},
		{Name: "cert-unknown-ca", Title: "nobody knows the certificate's authority", Layer: 6,
			Causes: []string{"l6.certificate.invalid"}, inject: cert(certOther, classUnknownCA)},
		{Name: "cert-wrong-name", Title: "the certificate is for another name", Layer: 6,
			Causes: []string{"l6.certificate.invalid"}, inject: cert(certName, classWrongName)},
		{Name: "tls-mismatch", Title: "no TLS version or suite in common", Layer: 6,
			Causes: []string{"l6.tls.mismatch"}, inject: tlsMismatch},
		{Name: "dns-failure", Title: "the name server answers with an error", Layer: 7,
			Causes: []string{"l7.dns.failure"}, Default: true, inject: dnsFailure},
		{Name: "dns-silent", Title: "the name server does not answer", Layer: 7,
			Causes: []string{"l7.dns.failure"}, inject: dnsSilent},
		{Name: "http-5xx", Title: "the HTTP server answers with errors of its own", Layer: 7,
			Causes: []string{"l7.http.server_error"}, Default: true, inject: httpStatus(500, 502, 503, 504)},
		{Name: "http-auth", Title: "the HTTP server refuses the credentials", Layer: 7,
			Causes: []string{"l7.auth.refused"}, inject: httpStatus(http.StatusUnauthorized, http.StatusForbidden)},
		{Name: "slow-server", Title: "the server takes seconds to answer", Layer: 7,
			Causes: []string{"l7.server.slow"}, inject: slowServer},
		{Name: "server-hangs", Title: "the server takes requests and never answers", Layer: 7,
			Causes: []string{"l7.server.slow"}, inject: serverHangs},
		{Name: "mqtt-auth", Title: "the MQTT broker refuses the credentials", Layer: 7,
			Causes: []string{"l7.auth.refused"}, Default: true, inject: mqttRefused(4, 5)},
		{Name: "mqtt-refused", Title: "the MQTT broker is unavailable", Layer: 7,
			Causes: []string{"l7.mqtt.refused"}, inject: mqttRefused(2, 3)},
	}
}

func tlsVersion(st *Stage) string {
	if st.Plan.TLS13 {
		return ", TLS 1.3"
	}
	return ", TLS 1.2"
}

func tlsMismatch(_ context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	if r.IntN(2) == 0 {
		return st.serverFault(svcTLS, mode{Fault: faultVersion}, describe(st, svcTLS)+": TLS 1.1 only", 2, classTLSVersion)
	}
	return st.serverFault(svcTLS, mode{Fault: faultCipher}, describe(st, svcTLS)+": no usable suite", 2, classTLS)
}

func dnsFailure(_ context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	code := pick(r, dns.RcodeServerFailure, dns.RcodeRefused)
	return st.serverFault(svcDNS, mode{Fault: faultStatus, Code: code},
		describe(st, svcDNS)+": "+dns.RcodeToString[code], 2, fmt.Sprintf("dns.%d", code))
}

func dnsSilent(_ context.Context, st *Stage, _ *rand.Rand) (*Fault, error) {
	return st.serverFault(svcDNS, mode{Fault: faultSilent}, describe(st, svcDNS), 2, classTimeout)
}

func httpStatus(codes ...int) func(context.Context, *Stage, *rand.Rand) (*Fault, error) {
	return func(_ context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
		code := pick(r, codes...)
		return st.serverFault(svcWeb, mode{Fault: faultStatus, Code: code},
			fmt.Sprintf("%s: %d", describe(st, svcWeb), code), 2, fmt.Sprintf("http.%d", code))
	}
}

// slowServer delays answers; what suffers is told by how long an operation took.
func slowServer(_ context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
	name := pick(r, svcWeb, svcWeb, svcTLS)
	delay := 1500*time.Millisecond + time.Duration(r.Int64N(int64(time.Second)))
	since := time.Now()
	f := &Fault{
		Detail: fmt.Sprintf("%s: about %s", describe(st, name), delay.Round(100*time.Millisecond)),
		Scopes: []string{st.Plan.Service(name).Scope()},
		clear:  func(context.Context) error { return st.set(name, mode{}) },
		effect: func() (Effect, error) {
			hit := st.Log.Ended(since, func(o Op) bool { return o.Service == name && o.Took > delay/2 && !o.Start.Before(since) })
			e := summary(since, hit)
			e.Shown = len(hit) >= 2
			if len(hit) > 0 {
				longest := slices.MaxFunc(hit, func(a, b Op) int { return int(a.Took - b.Took) })
				e.What += fmt.Sprintf("; up to %s", longest.Took.Round(10*time.Millisecond))
			}
			return e, nil
		},
	}
	return f, st.set(name, mode{Fault: faultSlow, Delay: delay})
}

func serverHangs(_ context.Context, st *Stage, _ *rand.Rand) (*Fault, error) {
	return st.serverFault(svcWeb, mode{Fault: faultStall}, describe(st, svcWeb), 2, classTimeout)
}

func mqttRefused(codes ...int) func(context.Context, *Stage, *rand.Rand) (*Fault, error) {
	return func(_ context.Context, st *Stage, r *rand.Rand) (*Fault, error) {
		code := pick(r, codes...)
		return st.serverFault(svcMQTT, mode{Fault: faultStatus, Code: code},
			fmt.Sprintf("%s: CONNACK %d", describe(st, svcMQTT), code), 2, fmt.Sprintf("mqtt.%d", code))
	}
}
