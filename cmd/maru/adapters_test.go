package main

import (
	"context"
	"testing"

	"github.com/marucloud/maru"
)

// found is an engine that has one image, under any name.
type found struct {
	imageStore
	reference string
}

func (f found) Image(context.Context, string) (maru.Image, error) {
	return maru.Image{Reference: f.reference}, nil
}

// TestImagesOfJobs: jobs have no image that an app deployed or people pushed, whatever they call it.
func TestImagesOfJobs(t *testing.T) {
	for _, c := range []struct {
		asked, found string
		want         maru.Kind
	}{
		{"docker.io/library/golang:1.26", "docker.io/library/golang@sha256:1", ""},
		{"jobs.maru.internal/default/shop@sha256:1", "jobs.maru.internal/default/shop@sha256:1", ""},
		{"maru.internal/default/production/shop:1", "maru.internal/default/production/shop@sha256:1", maru.Denied},
		{maru.RegistryHost + "/default/shop/web:1", maru.RegistryHost + "/default/shop/web@sha256:1", maru.Denied},
		{"example.com/web@sha256:1", maru.RegistryHost + "/default/shop/web@sha256:1", maru.NotFound},
		{"example.com/web@sha256:1", "maru.internal/default/production/shop@sha256:1", maru.NotFound},
	} {
		_, err := jobImages{found{reference: c.found}}.Image(t.Context(), c.asked)
		if maru.KindOf(err) != c.want {
			t.Errorf("%s, which is %s: %v", c.asked, c.found, err)
		}
	}
}
