//go:build vm

package vm

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// powerCutAfterImage takes the power when a deploy of an image that was not there before has just been
// acknowledged: not only Maru's state must be on the disk by then, but all the image's files.
func powerCutAfterImage(t *testing.T, m *machine) {
	m.run(t, "mkdir -p /root/hungry && cat >/root/hungry/compose.yaml <<'END'\n"+hungry+"END\nsync")
	m.step(t, "load and deploy another image, and cut the power when that is acknowledged")
	m.run(t, "maru image load /payload/service.tar && cd /root/hungry && maru deploy")
	m.cut(t)
	m.on(t)
	m.step(t, "booted")
	settled(t, m)
	m.step(t, "the shop runs again")
	m.eventually(t, "the other app runs", "maru status --app hungry | grep '^hungry in production: running' && curl -sSf -m 60 http://127.0.0.1:8099/healthz")
	m.step(t, "the other app runs again")
	clean(t, m)
}

// powerCuts take the power at random moments of a deploy, at times again while the machine comes back.
// What was acknowledged before is there afterwards, the wanted instances of one release run, and
// nothing else does.
func powerCuts(t *testing.T, m *machine) {
	cuts := 6
	if given, err := strconv.Atoi(os.Getenv("MARU_VM_CUTS")); err == nil {
		cuts = given
	}
	now, next := "1", "2"
	began := time.Now()
	m.step(t, "deploy release %s to the end", next)
	m.run(t, fmt.Sprintf(deploy, next))
	whole := time.Since(began)
	now, next = next, now

	acknowledged := []string{"first"}
	for i := range cuts {
		after := time.Duration(m.random.Int64N(int64(whole)))
		m.step(t, "deploy release %s, and cut the power after %s of some %s", next, after.Round(100*time.Millisecond), whole.Round(time.Second))
		deployed, noted := m.cutDuring(t, fmt.Sprintf(deploy, next), fmt.Sprint("cut", i), after)
		acknowledged = append(acknowledged, noted...)
		m.step(t, "acknowledged: %v, the deploy: %t; power on", noted, deployed)
		if i%3 == 2 {
			m.power(t)
			after := time.Duration(m.random.Int64N(int64(2 * whole)))
			m.step(t, "cut the power again after %s", after.Round(100*time.Millisecond))
			time.Sleep(after)
			m.cut(t)
		}
		m.on(t)
		m.step(t, "booted")
		settled(t, m)
		allowed := []string{next}
		if !deployed {
			allowed = append(allowed, now)
		}
		runs(t, m, allowed...)
		for _, name := range acknowledged {
			ordered(t, m, name)
			if name != "first" {
				m.run(t, "maru secret ls --app shop | grep -w "+name)
			}
		}
		clean(t, m)
		m.run(t, "! dmesg | grep -i 'EXT4-fs error'")
		if m.run(t, releases) == fmt.Sprint(wanted, " ", next) {
			now, next = next, now
		}
		m.step(t, "found as it should be, with release %s", now)
	}
	m.step(t, "deploy release %s to the end", next)
	m.run(t, fmt.Sprintf(deploy, next))
	runs(t, m, next)
	m.run(t, smoke)
	clean(t, m)
}

// cutDuring begins a deploy and cuts the power after some time. It tells whether the deploy was
// acknowledged until then, and what else: orders with a secret each, of names that begin with the prefix.
func (m *machine) cutDuring(t *testing.T, deploy, prefix string, after time.Duration) (deployed bool, noted []string) {
	t.Helper()
	cut := time.After(after)
	ending := m.send(t, deploy)
	for n := 0; ; n++ {
		name := fmt.Sprint(prefix, "-", n)
		note := m.send(t, fmt.Sprintf(place, name)+"\nmaru secret set --app shop "+name+" --from - <<<"+name)
		for waiting := true; waiting; {
			select {
			case a := <-ending:
				deployed = a.Code == 0
			case a := <-note:
				if waiting = false; a.Code == 0 {
					noted = append(noted, name)
				}
			case <-cut:
				m.cut(t)
				return deployed, noted
			}
		}
	}
}
