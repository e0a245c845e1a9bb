package plan_test

import (
	"github.com/marucloud/maru"
)

func web(image string, change ...func(*maru.Service)) maru.Service {
	s := maru.Service{
		Kind: maru.LongRunning, Image: image, Replicas: 3,
		Networks: map[string]maru.Attachment{"default": {}},
		Expose:   []maru.Port{{Port: 8080, Protocol: maru.TCP}},
		Update:   maru.Update{Strategy: maru.Rolling},
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func database(image string, change ...func(*maru.Service)) maru.Service {
	return web(image, append([]func(*maru.Service){func(s *maru.Service) {
		s.Replicas = 1
		s.Update.Strategy = maru.Recreate
		s.Container.Mounts = []maru.Mount{{Kind: maru.VolumeMount, Source: "data", Target: "/data"}}
	}}, change...)...)
}

func job(image string, change ...func(*maru.Service)) maru.Service {
	return web(image, append([]func(*maru.Service){func(s *maru.Service) { s.Kind, s.Replicas = maru.Job, 1 }}, change...)...)
}

func after(service string, c maru.Condition) func(*maru.Service) {
	return func(s *maru.Service) {
		s.DependsOn = append(s.DependsOn, maru.Dependency{Service: service, Condition: c})
	}
}

func app(services map[string]maru.Service) maru.App {
	return maru.App{Name: "shop", Services: services,
		Networks: map[string]maru.Network{"default": {}}, Volumes: map[string]maru.Volume{"data": {}}}
}
