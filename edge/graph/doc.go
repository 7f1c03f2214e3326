// Package graph says which scopes of an episode depend on which: a service on its host,
// the next hop and the interface, and so on down to the device.
//
// A Graph is built from one Episode for one decision and then thrown away; it borrows the
// episode's nodes and is not changed after New.
package graph
