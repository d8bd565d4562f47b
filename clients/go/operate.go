// Operates a daemon and prints one JSON object per step. FULLON_ADMIN is the address of the admin
// API, FULLON_TOKEN a token.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"strings"

	"fullon-operate/generated/admin"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func report(step string, value any) {
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{step: value}))
}

// The result of a call, which must not fail.
func must[T any](value T, _ *http.Response, err error) T {
	check(err)
	return value
}

// The problem of an error response.
func problemOf[T any](_ T, _ *http.Response, err error) map[string]any {
	var failure *admin.GenericOpenAPIError
	if !errors.As(err, &failure) {
		log.Fatalf("the call was not refused: %v", err)
	}
	problem := failure.Model().(admin.Problem)
	return map[string]any{"status": problem.Status, "title": problem.Title, "detail": problem.Detail}
}

type event struct {
	Event string         `json:"event"`
	Entry admin.LogEntry `json:"entry"`
}

// Names and data of the first events. The generated method waits for the end of the stream, and
// does not parse event streams (HTML standard, section 9.2).
func follow(address, token string) []event {
	request, err := http.NewRequest(http.MethodGet, address+"/admin/logs/stream?lines=2", nil)
	check(err)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	check(err)
	defer response.Body.Close()
	var name string
	var events []event
	for lines := bufio.NewScanner(response.Body); len(events) < 2; {
		if !lines.Scan() {
			log.Fatalf("the stream ended: %v", lines.Err())
		}
		switch field, value, _ := strings.Cut(lines.Text(), ": "); field {
		case "event":
			name = value
		case "data":
			var entry admin.LogEntry
			check(json.Unmarshal([]byte(value), &entry))
			events = append(events, event{name, entry})
		}
	}
	return events
}

func main() {
	address, token := os.Getenv("FULLON_ADMIN"), os.Getenv("FULLON_TOKEN")
	configuration := admin.NewConfiguration()
	configuration.Servers = admin.ServerConfigurations{{URL: address}}
	client := admin.NewAPIClient(configuration)
	unauthorized := context.WithValue(context.Background(), admin.ContextAccessToken, "none")
	report("refused", problemOf(client.DaemonAPI.GetStatus(unauthorized).Execute()))
	ctx := context.WithValue(context.Background(), admin.ContextAccessToken, token)
	report("status", must(client.DaemonAPI.GetStatus(ctx).Execute()))
	report("bad_parameter", problemOf(client.LogAPI.GetLogs(ctx).Since("soon").Execute()))
	before := must(client.LogAPI.GetLogLevel(ctx).Execute())
	level := admin.NewLogLevelRequest("debug")
	level.SetRevertAfterSeconds(600)
	now := must(client.LogAPI.SetLogLevel(ctx).LogLevelRequest(*level).Execute())
	report("log_level", map[string]string{"before": before.Level, "now": now.Level, "configured": now.ConfiguredLevel})
	report("logs", must(client.LogAPI.GetLogs(ctx).Lines(2).Execute()).Entries)
	report("events", follow(address, token))
	report("reload", must(client.SettingsAPI.ReloadSettings(ctx).Execute()))
	report("audit", must(client.AuditAPI.GetAudit(ctx).Lines(1).Execute()).Records)
	report("restart", must(client.DaemonAPI.RestartDaemon(ctx).Execute()))
	stop := admin.NewStopRequest()
	stop.SetTimeoutSeconds(5)
	report("stop", must(client.DaemonAPI.StopDaemon(ctx).StopRequest(*stop).Execute()))
}
