// Package publish holds the host ports that lead to services. A port that leads to one that speaks
// HTTP is balanced by request, like a route; every other one by connection, and UDP by client.
//
// A host port belongs to the service that asked first. When it lets go, the next one has it.
package publish
