package maru

import "time"

// Conclusion is how a step, a job or a run ended.
type Conclusion string

// The conclusions, as workflows name them.
const (
	Success   Conclusion = "success"
	Failure   Conclusion = "failure"
	Cancelled Conclusion = "cancelled"
	Skipped   Conclusion = "skipped"
)

// RunEventKind is what a RunEvent tells.
type RunEventKind string

// The kinds of event. In a run's stream each job is queued, or ends as skipped; steps begin and end
// within their job; RunEnded comes last.
const (
	RunWarning    RunEventKind = "warning"     // something about the workflow: Text, with File and Line
	JobQueued     RunEventKind = "job-queued"  // Job is to run: Name
	JobStarted    RunEventKind = "job-started" // its container is being made
	JobEnded      RunEventKind = "job-ended"   // Conclusion, and in Text why if it is not success
	StepStarted   RunEventKind = "step-started"
	StepEnded     RunEventKind = "step-ended"
	RunLine       RunEventKind = "line"      // a line of a step's log, secrets masked
	RunGroup      RunEventKind = "group"     // the lines from here on, up to group-end, belong together: Text
	RunGroupEnd   RunEventKind = "group-end" //
	RunAnnotation RunEventKind = "annotation"
	RunSummary    RunEventKind = "summary"  // Markdown that a step wrote
	RunArtifact   RunEventKind = "artifact" // one was kept: Name, Bytes
	RunTests      RunEventKind = "tests"    // what a step's output says of tests
	RunEnded      RunEventKind = "run-ended"
)

// RunEvent is something that happens in a run of a workflow.
type RunEvent struct {
	Kind       RunEventKind `json:"kind"`
	Time       time.Time    `json:"time"`
	Workflow   string       `json:"workflow,omitempty"` // its path
	Job        string       `json:"job,omitempty"`      // ID, unique in the run: build (1.26, linux)
	Step       int          `json:"step,omitempty"`     // from 1; 0: the job itself
	Name       string       `json:"name,omitempty"`
	Conclusion Conclusion   `json:"conclusion,omitempty"`
	Text       string       `json:"text,omitempty"`
	Level      string       `json:"level,omitempty"` // of an annotation: notice, warning, error; of a line "debug"
	File       string       `json:"file,omitempty"`
	Line       int          `json:"line,omitempty"`
	Column     int          `json:"column,omitempty"`
	Bytes      int64        `json:"bytes,omitempty"`
	Tests      *TestReport  `json:"tests,omitempty"`

	// Outputs are a job's, when it ends. They are what is needed to run again what failed alone.
	Outputs map[string]string `json:"outputs,omitempty"`
	// Images are what a job hands over when it ends, by service: NAME@sha256:…
	Images map[string]string `json:"images,omitempty"`
}

// TestReport is what a test program told of its tests.
type TestReport struct {
	Format  string        `json:"format"` // go, junit, tap
	Passed  int           `json:"passed"`
	Failed  int           `json:"failed"`
	Skipped int           `json:"skipped"`
	Time    time.Duration `json:"time,omitempty"`
	Tests   []TestResult  `json:"tests,omitempty"` // those that failed, up to a bound
}

// TestResult is a test that failed.
type TestResult struct {
	Suite   string `json:"suite,omitempty"` // package, class or file
	Name    string `json:"name"`
	Message string `json:"message,omitempty"`
	File    string `json:"file,omitempty"` // where it failed
	Line    int    `json:"line,omitempty"`
}
