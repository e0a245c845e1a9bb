package runner

import (
	"context"
	"encoding/json"
	"path"
	"strings"

	"github.com/marucloud/maru"
)

// buildImage is docker/build-push-action, which pushes nothing.
func (s *stepRun) buildImage(ctx context.Context, with map[string]string) error {
	folder := s.job.folder(with["context"])
	file := s.job.folder(with["file"])
	dockerfile, in := strings.CutPrefix(file, folder+"/")
	if with["file"] == "Dockerfile" {
		dockerfile, in = "Dockerfile", true // of the context, as it is there
	}
	if !in {
		return maru.WithHint(maru.Errorf(maru.Unsupported, "the Dockerfile %s is not in the context %s", with["file"], with["context"]), "move it there")
	}
	req := BuildRequest{Dockerfile: path.Clean(dockerfile), Target: with["target"], NoCache: with["no-cache"] == "true", Pull: with["pull"] == "true"}
	var err error
	if req.Args, err = pairs("build-args", with["build-args"]); err != nil {
		return err
	}
	if req.Labels, err = pairs("labels", with["labels"]); err != nil {
		return err
	}
	secrets, err := pairs("secrets", with["secrets"])
	if err != nil {
		return err
	}
	req.Secrets = map[string][]byte{}
	for id, value := range secrets {
		req.Secrets[id] = []byte(value)
	}
	image, err := s.build(ctx, folder, req)
	if err != nil {
		return err
	}
	_, digest, _ := strings.Cut(image, "@")
	metadata, err := json.Marshal(map[string]string{"containerimage.digest": digest, "image.name": image})
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"digest": digest, "imageid": digest, "metadata": string(metadata)} {
		s.outputs.Set(name, value)
	}
	s.say("the image is " + image)
	return nil
}

// pairs reads lines of NAME=VALUE.
func pairs(input, text string) (map[string]string, error) {
	all := map[string]string{}
	for _, line := range nonEmpty(text) {
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" {
			return nil, maru.Errorf(maru.Invalid, "%s: %q is not NAME=VALUE", input, line)
		}
		all[name] = value
	}
	return all, nil
}
