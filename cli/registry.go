package cli

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/marucloud/maru"
	maruv1 "github.com/marucloud/maru/api/gen/maru/v1"
)

// dockerHub is how docker's settings name Docker Hub.
const dockerHub = "https://index.docker.io/v1/"

// registryLogins gives the credentials that "docker login" and its like left on this machine, for the
// registries that the app's images come from. Those in credential helpers are not read.
func (s *shell) registryLogins(app maru.App) map[string]*maruv1.RegistryAuth {
	path := filepath.Join(s.Getenv("DOCKER_CONFIG"), "config.json")
	if s.Getenv("DOCKER_CONFIG") == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		path = filepath.Join(home, ".docker", "config.json")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return loginsFor(data, registriesOf(app))
}

func registriesOf(app maru.App) map[string]bool {
	hosts := map[string]bool{"docker.io": true} // base images of builds
	for _, service := range app.Services {
		host, _, ok := strings.Cut(service.Image, "/")
		if ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
			hosts[host] = true
		}
	}
	return hosts
}

func loginsFor(config []byte, hosts map[string]bool) map[string]*maruv1.RegistryAuth {
	var parsed struct {
		Auths map[string]struct {
			Auth     string `json:"auth"`
			Username string `json:"username"`
			Password string `json:"password"`
		} `json:"auths"`
	}
	if json.Unmarshal(config, &parsed) != nil {
		return nil
	}
	logins := map[string]*maruv1.RegistryAuth{}
	for address, login := range parsed.Auths {
		host := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://"), "/")
		if address == dockerHub {
			host = "docker.io"
		}
		if !hosts[host] {
			continue
		}
		if decoded, err := base64.StdEncoding.DecodeString(login.Auth); err == nil && login.Auth != "" {
			login.Username, login.Password, _ = strings.Cut(string(decoded), ":")
		}
		if login.Username != "" {
			logins[host] = &maruv1.RegistryAuth{Username: login.Username, Password: login.Password}
		}
	}
	return logins
}
