package maru

import "time"

// LogEntry is one line that an instance wrote.
type LogEntry struct {
	Time     time.Time  `json:"time"` // when it was written
	Workload WorkloadID `json:"workload"`
	Instance string     `json:"instance"`
	Attempt  int        `json:"attempt"`
	Stream   string     `json:"stream"`            // stdout, stderr
	Line     string     `json:"line"`              // without its line end
	Partial  bool       `json:"partial,omitempty"` // the line goes on in the next entry of the stream
	Cursor   string     `json:"cursor"`            // for LogQuery.After: the place after this entry in its instance's log
}

// LogQuery selects log entries. The zero value is everything there is.
type LogQuery struct {
	Scope    Scope             `json:"scope"`              // empty parts match all
	Services []string          `json:"services,omitempty"` // empty: all
	Release  string            `json:"release,omitempty"`  // a workload's name; "": all
	Instance string            `json:"instance,omitempty"` // ID or its beginning
	Since    time.Time         `json:"since,omitzero"`
	Until    time.Time         `json:"until,omitzero"`
	Pattern  string            `json:"pattern,omitempty"` // RE2
	Tail     int               `json:"tail,omitempty"`    // last N per query before following; 0: all; <0: none
	Follow   bool              `json:"follow,omitempty"`
	After    map[string]string `json:"after,omitempty"` // cursors by instance, to go on where another query ended
}
