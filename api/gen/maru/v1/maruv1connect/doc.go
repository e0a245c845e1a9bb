// Package maruv1connect has the clients and handlers of Maru's API, generated from api/maru/v1.
package maruv1connect
