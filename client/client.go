package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/marucloud/maru"
	"github.com/marucloud/maru/api/gen/maru/v1/maruv1connect"
)

// Options say which server to speak to. Exactly one of Socket and URL is set.
type Options struct {
	Socket    string // path of the server's unix socket
	URL       string // such as https://maru.example.com:8444
	Token     string // with URL
	Authority []byte // PEM; signed the server's certificate. Empty: those that the system trusts
	Agent     string // names the program to the server; default "maru-go"
}

// Client speaks to one server. It is safe for concurrent use, and connects when first used.
type Client struct {
	transport *http.Transport
	where     string // for messages

	Apps    maruv1connect.AppServiceClient
	Routes  maruv1connect.RouteServiceClient
	Logs    maruv1connect.LogServiceClient
	Runs    maruv1connect.RunServiceClient
	Exec    maruv1connect.ExecServiceClient
	Images  maruv1connect.ImageServiceClient
	Volumes maruv1connect.VolumeServiceClient
	Secrets maruv1connect.SecretServiceClient
	Configs maruv1connect.ConfigServiceClient
	Env     maruv1connect.EnvServiceClient
	Access  maruv1connect.AccessServiceClient
	Sources maruv1connect.SourceServiceClient
	System  maruv1connect.SystemServiceClient

	Certificates maruv1connect.CertificateServiceClient
	Pipelines    maruv1connect.PipelineServiceClient
	Environments maruv1connect.EnvironmentServiceClient
	Repositories maruv1connect.RepositoryServiceClient
	Delivery     maruv1connect.DeliveryServiceClient
	Notify       maruv1connect.NotifyServiceClient
}

// dialTime is how long a connection may take to be made.
const dialTime = 10 * time.Second

// New makes a client. The error is of kind Invalid.
func New(o Options) (*Client, error) {
	transport, base, err := o.transport()
	if err != nil {
		return nil, err
	}
	agent := o.Agent
	if agent == "" {
		agent = "maru-go"
	}
	doer := &http.Client{Transport: headers{transport, o.Token, agent}}
	options := []connect.ClientOption{
		connect.WithSendCompression(""),
		connect.WithInterceptors(errorInterceptor{base.where}),
	}
	c := &Client{transport: transport, where: base.where}
	c.Apps = maruv1connect.NewAppServiceClient(doer, base.url, options...)
	c.Routes = maruv1connect.NewRouteServiceClient(doer, base.url, options...)
	c.Logs = maruv1connect.NewLogServiceClient(doer, base.url, options...)
	c.Runs = maruv1connect.NewRunServiceClient(doer, base.url, options...)
	c.Exec = maruv1connect.NewExecServiceClient(doer, base.url, options...)
	c.Images = maruv1connect.NewImageServiceClient(doer, base.url, options...)
	c.Volumes = maruv1connect.NewVolumeServiceClient(doer, base.url, options...)
	c.Secrets = maruv1connect.NewSecretServiceClient(doer, base.url, options...)
	c.Configs = maruv1connect.NewConfigServiceClient(doer, base.url, options...)
	c.Env = maruv1connect.NewEnvServiceClient(doer, base.url, options...)
	c.Access = maruv1connect.NewAccessServiceClient(doer, base.url, options...)
	c.Sources = maruv1connect.NewSourceServiceClient(doer, base.url, options...)
	c.System = maruv1connect.NewSystemServiceClient(doer, base.url, options...)
	c.Pipelines = maruv1connect.NewPipelineServiceClient(doer, base.url, options...)
	c.Notify = maruv1connect.NewNotifyServiceClient(doer, base.url, options...)
	c.Delivery = maruv1connect.NewDeliveryServiceClient(doer, base.url, options...)
	c.Certificates = maruv1connect.NewCertificateServiceClient(doer, base.url, options...)
	c.Environments = maruv1connect.NewEnvironmentServiceClient(doer, base.url, options...)
	c.Repositories = maruv1connect.NewRepositoryServiceClient(doer, base.url, options...)
	return c, nil
}

// Where names the server, for messages.
func (c *Client) Where() string { return c.where }

// Close closes idle connections. The client can be used again.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

type base struct{ url, where string }

func (o Options) transport() (*http.Transport, base, error) {
	t := &http.Transport{Protocols: new(http.Protocols), IdleConnTimeout: time.Minute}
	dialer := &net.Dialer{Timeout: dialTime, KeepAlive: 15 * time.Second}
	if o.Socket != "" {
		if o.URL != "" || o.Token != "" {
			return nil, base{}, maru.Errorf(maru.Invalid, "a server is named by a socket or by a URL and token, not by both")
		}
		// HTTP/2, so that both sides of exec and forward can speak at once.
		t.Protocols.SetUnencryptedHTTP2(true)
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", o.Socket)
		}
		return t, base{"http://maru", o.Socket}, nil
	}
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, base{}, maru.WithHint(maru.Errorf(maru.Invalid, "%q is no server's address", o.URL), "it looks like https://maru.example.com:8444")
	}
	t.Protocols.SetHTTP2(true)
	t.DialContext = dialer.DialContext
	t.Proxy = http.ProxyFromEnvironment
	t.TLSHandshakeTimeout = dialTime
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if len(o.Authority) > 0 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(o.Authority) {
			return nil, base{}, maru.Errorf(maru.Invalid, "the certificate authority's certificate can't be read")
		}
		t.TLSClientConfig.RootCAs = pool
	}
	return t, base{strings.TrimRight(u.String(), "/"), u.Host}, nil
}

// headers sends who asks along with each request.
type headers struct {
	next         http.RoundTripper
	token, agent string
}

func (h headers) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	if h.token != "" {
		req.Header.Set("Authorization", "Bearer "+h.token)
	}
	req.Header.Set("User-Agent", h.agent)
	return h.next.RoundTrip(req)
}
