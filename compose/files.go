package compose

import (
	"fmt"
	"path"
	"strconv"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/marucloud/maru"
)

// fileMode is the mode of a config or secret when the file says none. A program that stepped down from
// root can read it; nobody outside the container can.
const fileMode = 0o444

// files reads the service's configs and secrets.
func (s *service) files() {
	for i, c := range s.in.Configs {
		s.l.config(c.Source)
		at := []string{"configs", fmt.Sprint(i)}
		if m, ok := s.file(types.FileReferenceConfig(c), "/", at); ok {
			s.out.Configs = append(s.out.Configs, m)
		}
	}
	for i, c := range s.in.Secrets {
		s.l.secret(c.Source)
		at := []string{"secrets", fmt.Sprint(i)}
		if m, ok := s.file(types.FileReferenceConfig(c), "/run/secrets", at); ok {
			s.out.Secrets = append(s.out.Secrets, m)
		}
	}
}

// file gives where a config or secret is put. A relative target is in the folder.
func (s *service) file(in types.FileReferenceConfig, folder string, at []string) (maru.FileMount, bool) {
	m := maru.FileMount{Source: in.Source, Target: in.Target, Mode: fileMode}
	if m.Target == "" {
		m.Target = in.Source
	}
	if !path.IsAbs(m.Target) {
		m.Target = path.Join(folder, m.Target)
	}
	m.Target = path.Clean(m.Target)
	if in.Mode != nil {
		if *in.Mode < 0 || *in.Mode > 0o7777 {
			s.fail(maru.Invalid, fmt.Sprintf("%#o is not a mode", int64(*in.Mode)), "write it in octal, such as 0440", append(at, "mode")...)
			return m, false
		}
		m.Mode = uint32(*in.Mode)
	}
	var ok1, ok2 bool
	m.UID, ok1 = s.id(in.UID, append(at, "uid"))
	m.GID, ok2 = s.id(in.GID, append(at, "gid"))
	return m, ok1 && ok2
}

func (s *service) id(text string, at []string) (int, bool) {
	if text == "" {
		return 0, true
	}
	id, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		s.fail(maru.Invalid, fmt.Sprintf("%q is not a number", text), "names of users and groups are the image's: write the number", at...)
	}
	return int(id), err == nil
}

// config adds a config that a service uses.
func (l *load) config(key string) {
	if _, ok := l.app.Configs[key]; ok {
		return
	}
	in, at := l.proj.Configs[key], "configs."+key
	if err := maru.CheckName("config", key); err != nil {
		l.failErr(l.place("configs", key), at, maru.Invalid, err)
	}
	out := maru.Config{}
	switch {
	case bool(in.External):
		out.External, out.Name = true, in.Name
		l.checkExternal("config", "configs", key, in.Name)
	case in.File != "":
		out.Content = l.content("configs", key, in.File)
	case in.Environment != "":
		out.Content = l.variable("configs", key, in.Environment)
	default:
		out.Content = []byte(in.Content)
	}
	if !out.External && l.src.get("configs", key, "name") != nil {
		e := exceptionOf("configs.*.name")
		l.warn(l.place("configs", key, "name"), at+".name", e.means, e.instead)
	}
	l.app.Configs[key] = out
}

// secret adds a secret that a service uses. Its value is kept apart.
func (l *load) secret(key string) {
	if _, ok := l.app.Secrets[key]; ok {
		return
	}
	in, at := l.proj.Secrets[key], "secrets."+key
	if err := maru.CheckName("secret", key); err != nil {
		l.failErr(l.place("secrets", key), at, maru.Invalid, err)
	}
	out := maru.SecretRef{Name: key, External: bool(in.External)}
	if out.External || l.src.get("secrets", key, "name") != nil {
		out.Name = in.Name
		l.checkExternal("secret", "secrets", key, in.Name)
	}
	if !out.External {
		l.secrets[key] = l.secretValue(key, in)
	}
	l.app.Secrets[key] = out
}

// secretValue gives the content of a secret that a file or a variable has.
func (l *load) secretValue(key string, in types.SecretConfig) []byte {
	if in.File != "" {
		return l.content("secrets", key, in.File)
	}
	return l.variable("secrets", key, in.Environment)
}

func (l *load) content(section, key, file string) []byte {
	data, err := l.readFile(file, maxContentFile)
	if err != nil {
		l.failErr(l.place(section, key, "file"), section+"."+key+".file", maru.Invalid, err)
	}
	return data
}

func (l *load) variable(section, key, name string) []byte {
	value, ok := l.env[name]
	if !ok {
		l.fail(l.place(section, key, "environment"), section+"."+key+".environment", maru.Invalid,
			fmt.Sprintf("the variable %s has no value", name), fmt.Sprintf("set it in the shell, in .env, or with maru env set %s=VALUE", name))
	}
	return []byte(value)
}
