// Package follow brings what is pushed to a repository elsewhere, at GitHub, GitLab, Gitea or any server, to an app's
// repository, from where it goes the way of a push. It looks for news from time to time, and at once when a webhook
// says so: a webhook brings no news itself, so that nobody gains anything by sending one again. How runs go is told to
// the forge as the states of their commits.
package follow
