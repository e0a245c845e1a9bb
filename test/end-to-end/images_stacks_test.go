package endtoend

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marucloud/maru/test/images"
)

// startWithRegistry starts an installation that takes Docker's images from a registry of real servers.
func startWithRegistry(t *testing.T) *machine {
	t.Helper()
	cache, err := filepath.Abs("../../.cache/images")
	if err != nil {
		t.Fatal(err)
	}
	if missing := images.Missing(cache, images.Servers); len(missing) > 0 {
		t.Skipf("%d of the images are not packed; to pack them: go run ./test/images/pack .cache/images", len(missing))
	}
	registry, err := images.Serve(cache, images.Servers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(registry.Close)
	return start(t, "MARU_MIRROR=docker.io="+registry.URL)
}

const postgresStack = `
name: ledger
services:
  db:
    image: postgres:15
    restart: always
    environment:
      POSTGRES_USER: app
      POSTGRES_DB: ledger
      POSTGRES_PASSWORD_FILE: /run/secrets/db_password
    command: ["postgres", "-c", "max_connections=CONNECTIONS"]
    volumes:
      - pgdata:/var/lib/postgresql/data
    configs:
      - source: schema
        target: /docker-entrypoint-initdb.d/schema.sql
    secrets: [db_password]
    shm_size: 128mb
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -U app -d ledger"]
      interval: 5s
      timeout: 5s
      retries: 10
  migrate:
    image: postgres:15
    restart: "no"
    depends_on: {db: {condition: service_healthy}}
    secrets: [db_password]
    entrypoint: ["bash", "-c"]
    command:
      - PGPASSWORD=$$(cat /run/secrets/db_password) psql -h db -U app ledger -v ON_ERROR_STOP=1 -c
        "INSERT INTO entries VALUES ('by migration CONNECTIONS')"
  client:
    image: postgres:15
    command: ["sleep", "infinity"]
    depends_on:
      migrate: {condition: service_completed_successfully}
    secrets: [db_password]
volumes:
  pgdata:
configs:
  schema: {content: "CREATE TABLE entries (what text);"}
secrets:
  db_password: {external: true}
`

func TestImagesPostgres(t *testing.T) {
	m := startWithRegistry(t)
	m.maru(t, "secret", "set", "db_password", "--app", "ledger", "--from", writeFile(t, "correct horse"))
	query := func(sql string) string {
		t.Helper()
		return strings.TrimSpace(m.maru(t, "exec", "--app", "ledger", "-T", "client", "bash", "-c",
			`PGPASSWORD=$(cat /run/secrets/db_password) psql -qAtX -h db -U app ledger -c "`+sql+`"`))
	}
	m.deploy(t, strings.ReplaceAll(postgresStack, "CONNECTIONS", "30"))
	if got := query("SELECT what FROM entries"); got != "by migration 30" {
		t.Errorf("the first deploy's entries: %q", got)
	}
	query("INSERT INTO entries VALUES ('by hand')")
	m.deploy(t, strings.ReplaceAll(postgresStack, "CONNECTIONS", "40"))
	if got := query("SHOW max_connections"); got != "40" {
		t.Errorf("after the second deploy max_connections is %s", got)
	}
	if got := query("SELECT string_agg(what, ', ' ORDER BY what) FROM entries"); got != "by hand, by migration 30, by migration 40" {
		t.Errorf("after the second deploy: %q", got)
	}
	owner := m.maru(t, "exec", "--app", "ledger", "-T", "db", "stat", "-c", "%U %a", "/var/lib/postgresql/data")
	if strings.TrimSpace(owner) != "postgres 700" {
		t.Errorf("the data folder is of %s", owner)
	}
	if who := m.maru(t, "exec", "--app", "ledger", "-T", "db", "stat", "-c", "%U", "/proc/1"); strings.TrimSpace(who) != "postgres" {
		t.Errorf("the server runs as %s", who)
	}
	wrong, _, code := m.try(t, "exec", "--app", "ledger", "-T", "client", "bash", "-c", "PGPASSWORD=wrong psql -h db -U app ledger -c 'SELECT 1'")
	if code == 0 {
		t.Errorf("a wrong password is taken: %s", wrong)
	}
}

const redisStack = `
name: cache
services:
  cache:
    image: redis:7
    command: ["redis-server", "--appendonly", "yes", "--maxmemory", "MEMORYmb"]
    ports: ["127.0.0.1:16379:6379"]
    volumes: [data:/data]
    healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 5s, timeout: 3s, retries: 5}
    deploy: {resources: {limits: {memory: 256M}}}
volumes:
  data:
`

// redis asks the server on the published port one thing.
func redis(t *testing.T, command string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", "127.0.0.1:16379", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "%s\r\n", command)
	answer := bufio.NewReader(conn)
	line, err := answer.ReadString('\n')
	if err == nil && strings.HasPrefix(line, "$") && line != "$-1\r\n" {
		line, err = answer.ReadString('\n')
	}
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return strings.TrimSpace(line)
}

func TestImagesRedis(t *testing.T) {
	m := startWithRegistry(t)
	m.deploy(t, strings.ReplaceAll(redisStack, "MEMORY", "64"))
	if got := redis(t, "SET greeting hello"); got != "+OK" {
		t.Fatalf("SET answers %s", got)
	}
	m.deploy(t, strings.ReplaceAll(redisStack, "MEMORY", "65"))
	if got := redis(t, "GET greeting"); got != "hello" {
		t.Errorf("after the second deploy the greeting is %q", got)
	}
	if who := m.maru(t, "exec", "--app", "cache", "-T", "cache", "stat", "-c", "%U", "/proc/1"); strings.TrimSpace(who) != "redis" {
		t.Errorf("the server runs as %s", who)
	}
}

const nginxStack = `
name: front
services:
  nginx:
    image: nginx:1.22
    ports: ["18080:80"]
    configs:
      - source: site
        target: /etc/nginx/conf.d/default.conf
      - source: page
        target: /usr/share/nginx/html/index.html
    x-maru: {route: front.localhost}
configs:
  site:
    content: |
      server {
        listen 80;
        listen [::]:80;
        root /usr/share/nginx/html;
        location = /health { return 200 "fine"; }
      }
  page: {content: "page VERSION"}
`

func TestImagesNginx(t *testing.T) {
	m := startWithRegistry(t)
	for _, version := range []string{"one", "two"} {
		m.deploy(t, strings.ReplaceAll(nginxStack, "VERSION", version))
		if code, body := m.get(t, "front.localhost", "/"); code != 200 || body != "page "+version {
			t.Errorf("the gateway gives %d %q", code, body)
		}
		response, err := http.Get("http://127.0.0.1:18080/health")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 {
			t.Errorf("the published port answers %s", response.Status)
		}
	}
	if out := m.maru(t, "logs", "--app", "front", "nginx"); !strings.Contains(out, "GET /health") {
		t.Errorf("the access log is missing:\n%s", out)
	}
}

const rabbitStack = `
name: queue
services:
  rabbitmq:
    image: rabbitmq:3
    hostname: rabbit
    environment: {RABBITMQ_DEFAULT_USER: app, RABBITMQ_DEFAULT_PASS: secret, DEPLOY: "NUMBER"}
    ports: ["15672:5672"]
    volumes: [data:/var/lib/rabbitmq]
    healthcheck:
      test: ["CMD", "rabbitmq-diagnostics", "-q", "check_port_connectivity"]
      interval: 10s
      timeout: 20s
      retries: 10
      start_period: 60s
volumes:
  data:
`

func TestImagesRabbitMQ(t *testing.T) {
	m := startWithRegistry(t)
	m.deploy(t, strings.ReplaceAll(rabbitStack, "NUMBER", "1"))
	exec := func(args ...string) string {
		t.Helper()
		return m.maru(t, append([]string{"exec", "--app", "queue", "-T", "rabbitmq"}, args...)...)
	}
	exec("rabbitmqctl", "-q", "authenticate_user", "app", "secret")
	exec("rabbitmqctl", "-q", "add_vhost", "orders")
	m.deploy(t, strings.ReplaceAll(rabbitStack, "NUMBER", "2"))
	if out := exec("rabbitmqctl", "-q", "list_vhosts"); !strings.Contains(out, "orders") {
		t.Errorf("after the second deploy there are only %s", out)
	}
	conn, err := net.DialTimeout("tcp", "127.0.0.1:15672", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(conn, "AMQP\x00\x00\x09\x01")
	frame := make([]byte, 1)
	if _, err := conn.Read(frame); err != nil || frame[0] != 1 {
		t.Errorf("the broker answers %v, %v", frame, err)
	}
}
