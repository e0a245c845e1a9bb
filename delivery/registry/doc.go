// Package registry serves the engine's images by the protocol of the OCI Distribution Specification 1.1, to
// docker, containerd, Kubernetes and other clients, which know it by the paths below /v2/.
//
// There are two kinds of repositories. What people push is in PROJECT/APP/NAME, where the project may be left
// out if it is the default one, and the last part too: SHOP, SHOP/WEB, TEAM/SHOP/WEB. The images of a service's
// releases are in PROJECT/ENVIRONMENT/APP/SERVICE, tagged by the releases' numbers, and can only be read.
//
// Nothing is kept here: content, tags and uploads are the engine's ([maru.Repositories], [maru.Uploads]), which
// stores a layer once, whoever pushed, pulled or built it.
package registry
