package plan

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/marucloud/maru"
)

// Retention says what stays in the image registry.
type Retention struct {
	Grace time.Duration // everything stays for so long after it was pushed
	Tags  int           // tagged manifests that stay in each repository, the last that were pushed; 0: all
}

// Unkept gives what is to be removed from repositories, in this order, so that what is left never lacks a
// part of it. In each repository there stay: tagged manifests, what was pushed within the grace, all that
// what stays is made of, and manifests about what stays, such as signatures.
func Unkept(now time.Time, contents []maru.Content, r Retention) []maru.Content {
	byRepository := map[string][]maru.Content{}
	for _, c := range contents {
		byRepository[c.Repository] = append(byRepository[c.Repository], c)
	}
	var unkept []maru.Content
	for _, all := range byRepository {
		kept := keptOf(now, all, r)
		for _, c := range all {
			if !kept[c.Digest] {
				unkept = append(unkept, c)
			}
		}
	}
	slices.SortFunc(unkept, func(a, b maru.Content) int {
		return cmp.Or(strings.Compare(a.Repository, b.Repository), partRank(a)-partRank(b), strings.Compare(a.Digest, b.Digest))
	})
	return unkept
}

// partRank orders what may be made of others before these.
func partRank(c maru.Content) int {
	switch {
	case strings.Contains(c.MediaType, ".index.") || strings.Contains(c.MediaType, ".list."):
		return 0
	case c.MediaType != "":
		return 1
	}
	return 2
}

// keptOf gives the digests that stay in one repository.
func keptOf(now time.Time, all []maru.Content, r Retention) map[string]bool {
	byDigest := make(map[string]maru.Content, len(all))
	about := map[string][]string{}
	for _, c := range all {
		byDigest[c.Digest] = c
		if c.Subject != "" {
			about[c.Subject] = append(about[c.Subject], c.Digest)
		}
	}
	kept := make(map[string]bool, len(all))
	var keep func(digest string)
	keep = func(digest string) {
		c, there := byDigest[digest]
		if !there || kept[digest] {
			return
		}
		kept[digest] = true
		for _, part := range slices.Concat(c.References, about[digest]) {
			keep(part)
		}
	}
	for _, c := range lastTagged(all, r.Tags) {
		keep(c.Digest)
	}
	for _, c := range all {
		if now.Sub(c.Pushed) < r.Grace {
			keep(c.Digest)
		}
	}
	return kept
}

// lastTagged gives the tagged manifests that were pushed last, n of them, or with 0 all.
func lastTagged(all []maru.Content, n int) []maru.Content {
	tagged := slices.DeleteFunc(slices.Clone(all), func(c maru.Content) bool { return len(c.Tags) == 0 })
	slices.SortFunc(tagged, func(a, b maru.Content) int {
		return cmp.Or(b.Pushed.Compare(a.Pushed), strings.Compare(a.Digest, b.Digest))
	})
	if n > 0 && n < len(tagged) {
		tagged = tagged[:n]
	}
	return tagged
}
