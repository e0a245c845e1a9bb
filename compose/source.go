package compose

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"go.yaml.in/yaml/v4"

	"github.com/marucloud/maru"
)

// maxIncludes bounds how deep includes and extends go.
const maxIncludes = 32

// fileSet is a group of files that go over each other, with what their variables and relative paths
// are resolved against.
type fileSet struct {
	files []string // absolute
	dir   string   // absolute
	env   map[string]string
	chain []string // the files that include it
}

func (s fileSet) lookup(name string) (string, bool) {
	value, ok := s.env[name]
	return value, ok
}

// source gives the merged nodes of the files, with what they include and extend.
func (l *load) source(s fileSet) *node {
	var merged *node
	for _, file := range s.files {
		for _, doc := range l.documents(file, s, position{}) {
			if doc.kind != mappingNode {
				l.fail(doc.pos, "", maru.Invalid, "a compose file is a mapping, with services in it", "")
				continue
			}
			doc = l.include(doc, file, s)
			doc = l.extend(doc, file, s)
			merged = l.merge(merged, doc)
		}
	}
	return merged
}

// documents reads a file's YAML. Faults in finding it are reported at the place that names it.
func (l *load) documents(file string, s fileSet, from position) []*node {
	data, err := l.readFile(file, maxComposeFile)
	if err != nil {
		l.failErr(from, "", maru.Invalid, err)
		return nil
	}
	shown := l.shown(file)
	p := &parser{l: l, file: shown, lookup: s.lookup, pending: map[*yaml.Node]bool{}}
	var docs []*node
	for _, y := range l.decode(shown, data) {
		if n := p.convert(y, ""); n != nil && n.kind != nullNode {
			docs = append(docs, n)
			if version := n.get("version"); version != nil {
				l.versions[file] = append(l.versions[file], version.key)
			}
		}
	}
	return docs
}

// include merges what the document includes under it.
func (l *load) include(doc *node, file string, s fileSet) *node {
	list := doc.get("include")
	if list == nil || list.kind != listNode {
		return doc
	}
	chain := append(slices.Clip(s.chain), file)
	if len(chain) > maxIncludes {
		l.fail(list.key, "include", maru.Invalid, "includes go too deep", "")
		return doc
	}
	merged := doc
	for i, item := range list.items {
		set, ok := l.included(item, joinIndex("include", i), s, chain)
		if !ok {
			continue
		}
		from := l.source(set)
		if from == nil {
			continue
		}
		under := newMapping(doc)
		for _, name := range []string{"services", "jobs", "volumes", "networks", "secrets", "configs", "models"} {
			if part := from.get(name); part != nil {
				under.set(name, part)
			}
		}
		merged = l.merge(under, merged)
	}
	return merged
}

// included gives the files that an item of include names.
func (l *load) included(item *node, path string, s fileSet, chain []string) (fileSet, bool) {
	paths, at := item.list(), item.pos
	set := fileSet{env: s.env, chain: chain}
	if item.kind == mappingNode {
		if item.get("path") == nil {
			return set, false
		}
		paths = item.get("path").list()
		set.dir = absolute(s.dir, item.get("project_directory").text())
	}
	for _, p := range paths.items {
		if isRemote(p.text()) || strings.HasPrefix(p.text(), "oci://") {
			l.fail(p.pos, path, maru.Unsupported, "Maru does not include files from elsewhere: "+p.text(),
				"check it out beside this file and include it by its path")
			return set, false
		}
		set.files = append(set.files, absolute(s.dir, p.text()))
	}
	if len(set.files) == 0 {
		return set, false
	}
	if slices.Contains(chain, set.files[0]) {
		l.fail(at, path, maru.Invalid, l.shown(set.files[0])+" includes itself", "")
		return set, false
	}
	if set.dir == "" {
		set.dir = filepath.Dir(set.files[0])
	}
	for _, file := range set.files {
		if _, err := l.readFile(file, maxComposeFile); err != nil {
			l.failErr(at, path, maru.Invalid, err)
			return set, false
		}
	}
	env, ok := l.includedEnv(item.get("env_file"), path, s, set.dir)
	set.env = env
	return set, ok
}

// includedEnv gives the variables that included files see: the including file's, and under them those
// of env_file, or of .env beside them.
func (l *load) includedEnv(list *node, path string, s fileSet, dir string) (map[string]string, bool) {
	var files []string
	if list == nil {
		if file := filepath.Join(dir, ".env"); isFile(file) {
			files = append(files, file)
		}
	} else {
		for _, item := range list.list().items {
			if item.text() == "/dev/null" {
				continue
			}
			file := absolute(s.dir, item.text())
			if _, err := l.readFile(file, maxEnvFile); err != nil {
				l.failErr(item.pos, path+".env_file", maru.Invalid, err)
				return s.env, false
			}
			files = append(files, file)
		}
	}
	return l.overEnvFiles(s.env, files)
}

// overEnvFiles gives env, and under it what the files say.
func (l *load) overEnvFiles(env map[string]string, files []string) (map[string]string, bool) {
	for _, file := range files {
		if _, err := l.readFile(file, maxEnvFile); err != nil {
			l.failErr(position{file: l.shown(file)}, "", maru.Invalid, err)
			return env, false
		}
	}
	values, err := dotenv.GetEnvFromFile(env, files)
	if err != nil {
		l.fail(l.envPosition(files, err), "", maru.Invalid, envMessage(err), "write NAME=VALUE lines")
		return env, false
	}
	merged := map[string]string{}
	for name, value := range values {
		merged[name] = value
	}
	for name, value := range env {
		merged[name] = value
	}
	return merged, true
}

// extend merges the services that each service of the document extends under it.
func (l *load) extend(doc *node, file string, s fileSet) *node {
	services := doc.get("services")
	if services == nil || services.kind != mappingNode {
		return doc
	}
	extended := newMapping(services)
	for _, name := range services.names {
		e := extender{l: l, file: file, dir: s.dir, set: s, services: services}
		extended.set(name, e.service(name, nil))
	}
	made := newMapping(doc)
	for _, name := range doc.names {
		made.set(name, doc.fields[name])
	}
	made.set("services", extended)
	return made
}

// extender is where a service that may extend another stands.
type extender struct {
	l        *load
	file     string // absolute
	dir      string // that its extends.file is relative to
	set      fileSet
	services *node
}

// service gives the named service over what it extends, without its extends.
func (e extender) service(name string, chain []string) *node {
	own := e.services.get(name)
	extends := own.get("extends")
	if extends == nil {
		return own
	}
	path := "services." + name + ".extends"
	id := e.file + "\x00" + name
	if slices.Contains(chain, id) || len(chain) > maxIncludes {
		e.l.fail(extends.key, path, maru.Invalid, fmt.Sprintf("the service %s extends itself", name), "")
		return own
	}
	base, target := e, extends.text()
	if extends.kind == mappingNode {
		for _, key := range extends.names {
			if key != "service" && key != "file" {
				e.l.fail(extends.fields[key].key, path+"."+key, maru.Invalid, "there is no key "+key+" in extends", didYouMean(key, []string{"service", "file"}))
			}
		}
		target = extends.get("service").text()
		if file := extends.get("file"); file != nil && file.kind == scalarNode {
			var ok bool
			if base, ok = e.in(file, path); !ok {
				return own
			}
		}
	}
	if target == "" {
		e.l.fail(extends.key, path, maru.Invalid, "does not say which service", "write extends: {service: NAME}")
		return own
	}
	if base.services.get(target) == nil {
		e.l.fail(extends.key, path, maru.Invalid, fmt.Sprintf("there is no service %q to extend in %s", target, e.l.shown(base.file)),
			didYouMean(target, base.services.keys()))
		return own
	}
	under := base.service(target, append(slices.Clip(chain), id))
	return e.l.merge(under, own.without("extends"), "services", name)
}

// in gives the services of the file that extends.file names.
func (e extender) in(file *node, path string) (extender, bool) {
	abs := absolute(e.dir, file.text())
	if _, err := e.l.readFile(abs, maxComposeFile); err != nil {
		e.l.failErr(file.pos, path+".file", maru.Invalid, err)
		return e, false
	}
	var merged *node
	if known, ok := e.l.extended[abs]; ok {
		merged = known
	} else {
		for _, doc := range e.l.documents(abs, e.set, file.pos) {
			merged = e.l.merge(merged, doc)
		}
		e.l.extended[abs] = merged
	}
	services := merged.get("services")
	if services == nil || services.kind != mappingNode {
		e.l.fail(file.pos, path+".file", maru.Invalid, e.l.shown(abs)+" has no services", "")
		return e, false
	}
	return extender{l: e.l, file: abs, dir: filepath.Dir(abs), set: e.set, services: services}, true
}

func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
