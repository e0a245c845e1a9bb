// Package maruv1 has the messages of Maru's API, generated from api/maru/v1.
package maruv1
