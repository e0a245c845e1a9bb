package maru

import (
	"strings"
	"time"
)

// CloudEvent is an event as CloudEvents 1.0 has them in JSON (structured mode).
type CloudEvent struct {
	SpecVersion     string    `json:"specversion"` // 1.0
	ID              string    `json:"id"`          // with Source, names the event
	Source          string    `json:"source"`      // such as maru://host.example.com/default/production/shop
	Type            string    `json:"type"`        // CloudEventPrefix and the event's type
	Subject         string    `json:"subject,omitempty"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            Event     `json:"data"`
}

// CloudEventPrefix begins the types of Maru's events.
const CloudEventPrefix = "io.github.marucloud.maru."

// CloudEventType is the media type of a CloudEvent in JSON.
const CloudEventType = "application/cloudevents+json"

// NewCloudEvent makes one of an event. Host names the machine; name is the stored object's.
func NewCloudEvent(host, name string, e Event) CloudEvent {
	c := CloudEvent{
		SpecVersion: "1.0", ID: name[strings.LastIndexByte(name, '/')+1:], Source: EventSource(host, e.Scope),
		Type: CloudEventPrefix + e.Type, Subject: e.Service, Time: e.Time.UTC(), DataContentType: "application/json", Data: e,
	}
	if e.Instance != "" {
		c.Subject += "/" + e.Instance
	}
	return c
}

// EventSource is where the events of a scope come from, whose last parts may be empty.
func EventSource(host string, scope Scope) string {
	return "maru://" + host + strings.TrimRight("/"+scope.String(), "/")
}
