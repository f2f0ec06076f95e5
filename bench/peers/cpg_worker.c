/* The worker for corosync: a client of libcpg with the commands and answers of bench/workers/conversation.py.
 *
 *     cpg_worker HOST
 *
 * One thread: it waits for the group and for standard input, and while it floods it alternates between sending (until
 * corosync says "try again", at most a burst) and delivering what has come. Messages and checks as in
 * bench/workers/stream.py: a prepared cycle, compared byte by byte, and an end that tells their number.
 */
#define _GNU_SOURCE
#include <corosync/cpg.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FLOOD, END, PROBE };
enum { MAX_HOSTS = 64, HEAD_BYTES = 8, PROBE_BYTES = 64, MAX_PROBES = 1 << 20, BURST = 64 };
enum { CYCLE_BYTES = 1 << 20, MAX_CYCLE = 1021, MIN_CYCLE = 5 };
enum { MAX_TRIES = 200, TRY_MICROSECONDS = 20000 };

struct head {
    uint8_t sender, kind, run, unused;
    uint32_t number;
    uint64_t sent; /* of a probe only */
};

struct cycle {
    size_t size, count;
    char *bytes;
};

static struct {
    int run;
    bool open[MAX_HOSTS];
    int senders_open;
    struct cycle cycles[MAX_HOSTS];
    uint32_t taken[MAX_HOSTS];
    uint64_t received, last;
    char wrong[200];
    uint32_t *latencies, probes;
} tally;

static struct {
    enum { IDLE, FLOODING, PROBING } doing;
    int run;
    struct cycle cycle;
    uint32_t number, total;
    uint64_t start, until;
    double rate;
} task;

static cpg_handle_t cpg;
static int host;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what, int error)
{
    fprintf(stderr, "cpg_worker: %s: error %d\n", what, error);
    exit(1);
}

static void make_cycle(struct cycle *cycle, int run, int sender, size_t size)
{
    size_t count = CYCLE_BYTES / size;
    count = count > MAX_CYCLE ? MAX_CYCLE : count < MIN_CYCLE ? MIN_CYCLE : count;
    free(cycle->bytes);
    *cycle = (struct cycle){size, count, malloc(size * count)};
    if (!cycle->bytes)
        die("no memory", 0);
    for (size_t number = 0; number < count; number++) {
        struct head head = {(uint8_t)sender, FLOOD, (uint8_t)run, 0, (uint32_t)number, 0};
        char *message = cycle->bytes + number * size;
        memcpy(message, &head, HEAD_BYTES);
        for (size_t at = HEAD_BYTES; at < size; at++)
            message[at] = (char)(at - HEAD_BYTES + number * 7 + (size_t)sender * 31);
    }
}

/* Receiving */

static void report(void)
{
    if (tally.senders_open)
        tally.last = now();
    printf("{\"e\":\"received\",\"run\":%d,\"messages\":%" PRIu64 ",\"last\":%" PRIu64
           ",\"complete\":%s,\"wrong\":\"%s\",\"latencies\":[",
           tally.run, tally.received, tally.last, tally.senders_open ? "false" : "true", tally.wrong);
    for (uint32_t at = 0; at < tally.probes; at++)
        printf("%s%" PRIu32, at ? "," : "", tally.latencies[at]);
    printf("]}\n");
}

#define BLAME(...) \
    do { \
        if (!tally.wrong[0]) \
            snprintf(tally.wrong, sizeof tally.wrong, __VA_ARGS__); \
    } while (0)

static void take_flood(const char *message, size_t size, int sender)
{
    const struct cycle *cycle = &tally.cycles[sender];
    uint32_t taken = tally.taken[sender]++;
    if (!cycle->bytes || size != cycle->size || memcmp(message, cycle->bytes + taken % cycle->count * size, size))
        BLAME("of sender %d, after message %" PRIu32 ": not what was sent, or not then", sender, taken);
    tally.received++;
}

static void deliver(cpg_handle_t handle, const struct cpg_name *group, uint32_t node, uint32_t pid, void *message,
                    size_t size)
{
    (void)handle, (void)group, (void)node, (void)pid;
    struct head head = {0};
    memcpy(&head, message, size < sizeof head ? size : sizeof head);
    if (head.sender >= MAX_HOSTS) {
        BLAME("a message of sender %d", head.sender);
    } else if (head.kind == FLOOD) {
        take_flood(message, size, head.sender);
    } else if (head.kind == PROBE) {
        if (head.number != tally.taken[head.sender]++)
            BLAME("probe %" PRIu32 " of sender %d out of order", head.number, head.sender);
        tally.received++;
        if (tally.probes < MAX_PROBES)
            tally.latencies[tally.probes++] = (uint32_t)((now() - head.sent) / 1000);
    } else {
        tally.last = now();
        if (head.run != (uint8_t)tally.run || head.number != tally.taken[head.sender])
            BLAME("sender %d sent %" PRIu32 ", %" PRIu32 " came", head.sender, head.number, tally.taken[head.sender]);
        if (tally.open[head.sender] && !(tally.open[head.sender] = false, --tally.senders_open))
            report();
    }
}

static void changed(cpg_handle_t handle, const struct cpg_name *group, const struct cpg_address *members, size_t count,
                    const struct cpg_address *left, size_t left_count, const struct cpg_address *joined,
                    size_t joined_count)
{
    (void)handle, (void)group, (void)members, (void)left, (void)left_count, (void)joined, (void)joined_count;
    printf("{\"e\":\"view\",\"members\":%zu,\"at\":%" PRIu64 "}\n", count, now());
}

/* Sending */

static bool send_message(const void *message, size_t size)
{
    struct iovec piece = {(void *)message, size};
    cs_error_t error = cpg_mcast_joined(cpg, CPG_TYPE_AGREED, &piece, 1);
    if (error != CS_OK && error != CS_ERR_TRY_AGAIN)
        die("cpg_mcast_joined", error);
    return error == CS_OK;
}

static bool send_end(void)
{
    char message[sizeof(struct head)] = {0};
    struct head head = {(uint8_t)host, END, (uint8_t)task.run, 0, task.number, 0};
    memcpy(message, &head, sizeof head);
    if (!send_message(message, sizeof message))
        return false;
    printf("{\"e\":\"sent\",\"run\":%d,\"messages\":%" PRIu32 "}\n", task.run, task.number);
    task.doing = IDLE;
    return true;
}

/* Send what can be sent now; how many milliseconds may pass before there is more (-1: any time, 0: none). */
static int flood(void)
{
    for (int count = 0; count < BURST; count++) {
        if (now() >= task.until)
            return send_end() ? -1 : 1;
        if (!send_message(task.cycle.bytes + task.number % task.cycle.count * task.cycle.size, task.cycle.size))
            return 1;
        task.number++;
    }
    return 0;
}

/* Send the probes that are due; the nanoseconds until the next one. */
static uint64_t send_probes(void)
{
    for (;;) {
        uint64_t due = task.start + (uint64_t)(task.number * 1e9 / task.rate), at = now();
        if (at < due)
            return due - at;
        if (task.number == task.total)
            return send_end() ? UINT64_MAX : 1000000;
        char message[PROBE_BYTES] = {0};
        struct head head = {(uint8_t)host, PROBE, (uint8_t)task.run, 0, task.number, at};
        memcpy(message, &head, sizeof head);
        if (!send_message(message, sizeof message))
            return 100000;
        task.number++;
    }
}

/* Commands */

static void receive(int run, size_t size, char *senders)
{
    tally.run = run;
    tally.received = tally.last = tally.probes = 0;
    tally.senders_open = 0;
    tally.wrong[0] = 0;
    memset(tally.open, 0, sizeof tally.open);
    memset(tally.taken, 0, sizeof tally.taken);
    for (char *one = strtok(senders, ","); one; one = strtok(NULL, ",")) {
        int sender = atoi(one);
        tally.open[sender] = true;
        tally.senders_open++;
        if (size)
            make_cycle(&tally.cycles[sender], run, sender, size);
    }
    printf("{\"e\":\"receiving\",\"run\":%d}\n", run);
}

static void obey(char *line)
{
    int run;
    size_t size;
    double seconds, rate;
    char senders[256];
    if (sscanf(line, "receive %d %zu %255s", &run, &size, senders) == 3) {
        receive(run, size, senders);
    } else if (sscanf(line, "flood %d %zu %lf", &run, &size, &seconds) == 3) {
        make_cycle(&task.cycle, run, host, size);
        task.doing = FLOODING, task.run = run, task.number = 0;
        task.until = now() + (uint64_t)(seconds * 1e9);
    } else if (sscanf(line, "probe %d %lf %lf", &run, &rate, &seconds) == 3) {
        task.doing = PROBING, task.run = run, task.number = 0, task.rate = rate;
        task.total = (uint32_t)(rate * seconds);
        task.start = now();
    } else if (!strncmp(line, "report", 6)) {
        report();
    } else {
        exit(0);
    }
}

static void read_commands(void)
{
    static char input[1024];
    static size_t used;
    ssize_t got = read(STDIN_FILENO, input + used, sizeof input - 1 - used);
    if (got <= 0)
        exit(0);
    used += (size_t)got;
    input[used] = 0;
    for (char *end; (end = strchr(input, '\n'));) {
        *end = 0;
        obey(input);
        used -= (size_t)(end + 1 - input);
        memmove(input, end + 1, used + 1);
    }
}

int main(int argc, char **argv)
{
    cpg_model_v1_data_t model = {.cpg_deliver_fn = deliver, .cpg_confchg_fn = changed};
    struct cpg_name group = {5, "bench"};
    int fd, error;

    host = argc > 1 ? atoi(argv[1]) : 1;
    tally.latencies = malloc(MAX_PROBES * sizeof *tally.latencies);
    setvbuf(stdout, NULL, _IOLBF, 0);
    /* corosync may still be forming its ring. */
    for (int tries = 0; (error = cpg_model_initialize(&cpg, CPG_MODEL_V1, (cpg_model_data_t *)&model, NULL)) != CS_OK;)
        if (tries++ == MAX_TRIES)
            die("cpg_model_initialize", error);
        else
            usleep(TRY_MICROSECONDS);
    for (int tries = 0; (error = cpg_join(cpg, &group)) != CS_OK;)
        if (error != CS_ERR_TRY_AGAIN || tries++ == MAX_TRIES)
            die("cpg_join", error);
        else
            usleep(TRY_MICROSECONDS);
    if ((error = cpg_fd_get(cpg, &fd)) != CS_OK)
        die("cpg_fd_get", error);
    for (;;) {
        struct pollfd ready[] = {{fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        struct timespec wait = {0, 0}, *timeout = &wait;
        int milliseconds;
        uint64_t nanoseconds;
        switch (task.doing) {
        case FLOODING:
            milliseconds = flood();
            wait.tv_nsec = milliseconds < 0 ? 0 : milliseconds * 1000000L;
            break;
        case PROBING:
            nanoseconds = send_probes();
            if (nanoseconds == UINT64_MAX)
                timeout = NULL;
            else
                wait = (struct timespec){(time_t)(nanoseconds / 1000000000u), (long)(nanoseconds % 1000000000u)};
            break;
        default:
            timeout = NULL;
        }
        if (ppoll(ready, 2, timeout, NULL) < 0)
            continue;
        if (ready[1].revents)
            read_commands();
        if (ready[0].revents && (error = cpg_dispatch(cpg, CS_DISPATCH_ALL)) != CS_OK && error != CS_ERR_TRY_AGAIN)
            die("cpg_dispatch", error);
    }
}
