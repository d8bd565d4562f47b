import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import fullon_admin.ApiClient;
import fullon_admin.ApiException;
import fullon_admin.api.AuditApi;
import fullon_admin.api.DaemonApi;
import fullon_admin.api.LogApi;
import fullon_admin.api.SettingsApi;
import fullon_admin.model.LogEntry;
import fullon_admin.model.LogLevelRequest;
import fullon_admin.model.Problem;
import fullon_admin.model.StopRequest;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Operates a daemon and prints one JSON object per step. FULLON_ADMIN is the address of the admin
 * API, FULLON_TOKEN a token.
 */
class Operate {
  private static final String ADDRESS = System.getenv("FULLON_ADMIN");
  private static final ObjectMapper JSON = ApiClient.createDefaultObjectMapper();

  private interface Call {
    void run() throws ApiException;
  }

  private static ApiClient withToken(String token) {
    ApiClient client = new ApiClient();
    client.updateBaseUri(ADDRESS);
    client.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + token));
    return client;
  }

  private static void report(String step, Object value) throws JsonProcessingException {
    System.out.println(JSON.writeValueAsString(Map.of(step, value)));
  }

  /** The problem of an error response. */
  private static Map<String, Object> problemOf(Call call) throws JsonProcessingException {
    try {
      call.run();
    } catch (ApiException error) {
      Problem problem = JSON.readValue(error.getResponseBody(), Problem.class);
      return Map.of(
          "status", problem.getStatus(), "title", problem.getTitle(), "detail", problem.getDetail());
    }
    throw new IllegalStateException("the call was not refused");
  }

  /**
   * Names and data of the first events. The generated method waits for the end of the stream, and
   * does not parse event streams (HTML standard, section 9.2).
   */
  private static List<Map<String, Object>> follow(ApiClient client)
      throws IOException, InterruptedException {
    HttpRequest.Builder request =
        HttpRequest.newBuilder(URI.create(ADDRESS + "/admin/logs/stream?lines=2"));
    client.getRequestInterceptor().accept(request);
    String name = null;
    List<Map<String, Object>> events = new ArrayList<>();
    try (var lines = client.getHttpClient().send(request.build(), BodyHandlers.ofLines()).body()) {
      for (var all = lines.iterator(); events.size() < 2; ) {
        String[] field = all.next().split(": ", 2);
        if (field[0].equals("event")) {
          name = field[1];
        } else if (field[0].equals("data")) {
          events.add(Map.of("event", name, "entry", JSON.readValue(field[1], LogEntry.class)));
        }
      }
    }
    return events;
  }

  public static void main(String[] arguments) throws Exception {
    report("refused", problemOf(new DaemonApi(withToken("none"))::getStatus));
    ApiClient client = withToken(System.getenv("FULLON_TOKEN"));
    DaemonApi daemon = new DaemonApi(client);
    LogApi log = new LogApi(client);
    report("status", daemon.getStatus());
    report("bad_parameter", problemOf(() -> log.getLogs(null, null, null, "soon", null)));
    var before = log.getLogLevel();
    var now = log.setLogLevel(new LogLevelRequest().level("debug").revertAfterSeconds(600.0));
    report(
        "log_level",
        Map.of(
            "before", before.getLevel(),
            "now", now.getLevel(),
            "configured", now.getConfiguredLevel()));
    report("logs", log.getLogs(2, null, null, null, null).getEntries());
    report("events", follow(client));
    report("reload", new SettingsApi(client).reloadSettings());
    report("audit", new AuditApi(client).getAudit(1, null).getRecords());
    report("restart", daemon.restartDaemon(null));
    report("stop", daemon.stopDaemon(new StopRequest().timeoutSeconds(5.0)));
  }
}
