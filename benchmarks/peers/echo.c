/* C: the echo with librabbitmq, one message a call, no confirms: what the unbatched protocol costs at least.
 *
 * Speaks the lines of benchmarks/process.py and takes its arguments: c-server | c-client --url --service --seconds
 * --window --hold. The client sends in bursts of what is free in its window; the server acks each request.
 */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#define WARM_UP 200
#define MOST_LAPS 50000000

static amqp_connection_state_t connection;

static const char *option(int count, char **words, const char *name, const char *otherwise) {
    for (int at = 1; at + 1 < count; at++)
        if (strcmp(words[at], name) == 0) return words[at + 1];
    return otherwise;
}

static int has(int count, char **words, const char *name) {
    for (int at = 1; at < count; at++)
        if (strcmp(words[at], name) == 0) return 1;
    return 0;
}

static void need(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "c echo: %s failed\n", what);
    exit(1);
}

static void answered(const char *what) {
    need(amqp_get_rpc_reply(connection).reply_type == AMQP_RESPONSE_NORMAL, what);
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

static double processor(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

static void open_channel(const char *url) {
    static char copy[1024];
    struct amqp_connection_info where;
    need(strlen(url) < sizeof copy, "the URL");
    strcpy(copy, url);
    need(amqp_parse_url(copy, &where) == AMQP_STATUS_OK, "the URL");
    connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    need(socket && amqp_socket_open(socket, where.host, where.port) == AMQP_STATUS_OK, "connecting");
    const char *vhost = *where.vhost ? where.vhost : "/";
    amqp_rpc_reply_t in = amqp_login(connection, vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, where.user, where.password);
    need(in.reply_type == AMQP_RESPONSE_NORMAL, "the login");
    amqp_channel_open(connection, 1);
    answered("a channel");
}

static void receive(amqp_envelope_t *envelope) {
    amqp_maybe_release_buffers(connection);
    need(amqp_consume_message(connection, envelope, NULL, 0).reply_type == AMQP_RESPONSE_NORMAL, "receiving");
}

static void publish(amqp_bytes_t queue, amqp_basic_properties_t *properties, amqp_bytes_t body) {
    need(amqp_basic_publish(connection, 1, amqp_empty_bytes, queue, 0, 0, properties, body) == 0, "publishing");
}

static void serve(const char *queue) {
    amqp_bytes_t name = amqp_cstring_bytes(queue);
    amqp_queue_declare(connection, 1, name, 0, 0, 0, 1, amqp_empty_table);
    answered("declaring");
    amqp_basic_qos(connection, 1, 0, 256, 0);
    answered("qos");
    amqp_basic_consume(connection, 1, name, amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    answered("consuming");
    printf("{\"event\": \"ready\"}\n");
    fflush(stdout);
    for (;;) {
        amqp_envelope_t request;
        receive(&request);
        amqp_basic_properties_t properties = {._flags = AMQP_BASIC_CORRELATION_ID_FLAG};
        properties.correlation_id = request.message.properties.correlation_id;
        publish(request.message.properties.reply_to, &properties, request.message.body);
        need(amqp_basic_ack(connection, 1, request.delivery_tag, 0) == 0, "the ack");
        amqp_destroy_envelope(&request);
    }
}

static int by_size(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

/* Calls with `window` in flight, until `most` were sent or the time is over; returns how many laps were noted. */
static long drive(amqp_bytes_t queue, amqp_bytes_t replies, long window, long most, double end, double *laps) {
    double *begun = calloc(window, sizeof *begun);
    long *expected = calloc(window, sizeof *expected), *free_slots = calloc(window, sizeof *free_slots);
    long sent = 0, done = 0, idle = window;
    need(begun && expected && free_slots, "memory");
    for (long at = 0; at < window; at++) free_slots[at] = at;
    for (;;) {
        while (idle && sent < most && now() < end) {
            long slot = free_slots[--idle];
            char id[24], body[40];
            snprintf(id, sizeof id, "%ld", slot);
            snprintf(body, sizeof body, "{\"n\": %ld}", sent);
            amqp_basic_properties_t properties = {._flags = AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG};
            properties.correlation_id = amqp_cstring_bytes(id);
            properties.reply_to = replies;
            expected[slot] = sent++;
            begun[slot] = now();
            publish(queue, &properties, amqp_cstring_bytes(body));
        }
        if (idle == window) break;
        amqp_envelope_t answer;
        receive(&answer);
        char id[24] = {0}, body[40] = {0};
        amqp_bytes_t shown = answer.message.properties.correlation_id;
        need(shown.len < sizeof id && answer.message.body.len < sizeof body, "an answer of that size");
        memcpy(id, shown.bytes, shown.len);
        memcpy(body, answer.message.body.bytes, answer.message.body.len);
        long slot = atol(id), number = -1;
        need(slot >= 0 && slot < window && sscanf(body, "{\"n\": %ld}", &number) == 1 && number == expected[slot], "an echo");
        if (done < MOST_LAPS) laps[done++] = now() - begun[slot];
        free_slots[idle++] = slot;
        amqp_destroy_envelope(&answer);
    }
    free(begun), free(expected), free(free_slots);
    return done;
}

static void call(const char *queue, long window, double seconds) {
    amqp_queue_declare_ok_t *own = amqp_queue_declare(connection, 1, amqp_empty_bytes, 0, 0, 1, 1, amqp_empty_table);
    answered("declaring");
    amqp_bytes_t replies = amqp_bytes_malloc_dup(own->queue), target = amqp_cstring_bytes(queue);
    amqp_basic_consume(connection, 1, replies, amqp_empty_bytes, 0, 1, 1, amqp_empty_table);
    answered("consuming");
    double *laps = malloc(sizeof *laps * MOST_LAPS); /* the kernel gives pages when they are written to */
    need(laps != NULL, "memory");
    drive(target, replies, 1, WARM_UP, now() + 60, laps);
    printf("{\"event\": \"begin\"}\n");
    fflush(stdout);
    double used = processor(), begin = now();
    long count = drive(target, replies, window, MOST_LAPS, begin + seconds, laps);
    double wall = now() - begin;
    used = processor() - used;
    qsort(laps, count, sizeof *laps, by_size);
    const char *names[] = {"p50_us", "p95_us", "p99_us", "p999_us"};
    const double shares[] = {0.5, 0.95, 0.99, 0.999};
    printf("{\"event\": \"done\", \"calls\": %ld, \"calls_per_s\": %.3f", count, count / wall);
    for (int at = 0; at < 4; at++) printf(", \"%s\": %.3f", names[at], laps[(long)(count * shares[at])] * 1e6);
    printf(", \"max_us\": %.3f, \"client_cpu_us\": %.3f}\n", laps[count - 1] * 1e6, used / count * 1e6);
    fflush(stdout);
}

int main(int count, char **words) {
    char queue[300];
    snprintf(queue, sizeof queue, "%s.c", option(count, words, "--service", "bench"));
    if (has(count, words, "--hold")) need(getchar() != EOF, "waiting");
    open_channel(option(count, words, "--url", "amqp://guest:guest@localhost/"));
    if (has(count, words, "c-server"))
        serve(queue);
    else
        call(queue, atol(option(count, words, "--window", "64")), atof(option(count, words, "--seconds", "3")));
    return 0;
}
