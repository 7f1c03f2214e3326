// Package otlp sends findings and Strata's own figures as OTLP metrics over HTTP.
//
// It is for the agent. A Client's Send (called by an upload.Drain on a cursor of its own)
// turns each finding into one point of the gauge strata.finding, at the finding's own
// time and with its confidence (0 to 1) as the value, so that a backlog of weeks lands
// where it belongs; Run exports a snapshot of the agent's figures on a period. Attributes
// of strata.finding: strata.cause, strata.layer, strata.scope.kind, strata.scope.id,
// strata.state, strata.severity (where the report has one) and strata.clock.synced=false
// where the time cannot be trusted. The finding's id is in the point's exemplar
// (strata.finding.id): as an attribute it would make a series of every finding.
//
// The exporter's own retry is off: the buffer holds what failed. A response of the 2xx
// kind ends a record's way, also a partial success, which by the OTLP specification must
// not be sent again; what the server rejected is counted.
//
// Credentials are headers in a file of mode 0600. A Client may be used by several
// goroutines; Close it after they have returned.
package otlp
