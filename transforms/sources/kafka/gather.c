/* Messages of librdkafka gathered into Arrow's buffers, without a Python object for each.
 *
 * librdkafka is not linked: its functions are looked up in the library that confluent-kafka has
 * loaded, and what is declared here is of its stable interface (rdkafka.h). This library is a plugin
 * of librdkafka's, too: so it is told of the client that confluent-kafka makes, which stays
 * confluent-kafka's to configure, log in, assign, ask and close. Only the messages are taken here,
 * from the consumer's queue. What else lies there, logs, errors and statistics, must not call
 * confluent-kafka, which is not prepared for it: the plugin takes that, too, and hands it on.
 */
#define Py_LIMITED_API 0x030A0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffers.h"
#include "utf8.h"

/* What rdkafka.h says. */
typedef struct {
    int32_t err;
    void *topic;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *opaque;
} message_t;

typedef int32_t on_new_t(void *client, const void *conf, void *opaque, char *text, size_t room);
typedef void error_cb_t(void *client, int code, const char *text, void *opaque);
typedef void log_cb_t(const void *client, int level, const char *facility, const char *text);
typedef int stats_cb_t(void *client, char *json, size_t size, void *opaque);

static struct {
    const void *(*conf)(void *);
    int32_t (*conf_get)(const void *, const char *, char *, size_t *);
    int32_t (*conf_set)(void *, const char *, const char *, char *, size_t);
    int32_t (*conf_interceptor_add_on_new)(void *, const char *, on_new_t *, void *);
    void (*conf_set_error_cb)(void *, error_cb_t *);
    void (*conf_set_log_cb)(void *, log_cb_t *);
    void (*conf_set_stats_cb)(void *, stats_cb_t *);
    int32_t (*set_log_queue)(void *, void *);
    void *(*queue_get_consumer)(void *);
    void (*queue_destroy)(void *);
    ssize_t (*consume_batch_queue)(void *, int, message_t **, size_t);
    void (*message_destroy)(message_t *);
    int64_t (*message_timestamp)(const message_t *, int32_t *);
    const char *(*message_errstr)(const message_t *);
    int32_t (*message_headers)(const message_t *, void **);
    size_t (*header_cnt)(const void *);
    int32_t (*header_get_all)(const void *, size_t, const char **, const void **, size_t *);
} rk;

#define FUNCTION(name) {"rd_kafka_" #name, (void **)&rk.name}
static const struct {
    const char *name;
    void **at;
} FUNCTIONS[] = {
    FUNCTION(conf), FUNCTION(conf_get), FUNCTION(conf_set),          FUNCTION(conf_interceptor_add_on_new),
    FUNCTION(conf_set_error_cb), FUNCTION(conf_set_log_cb),
    FUNCTION(conf_set_stats_cb), FUNCTION(set_log_queue),
    FUNCTION(queue_get_consumer), FUNCTION(queue_destroy),
    FUNCTION(consume_batch_queue), FUNCTION(message_destroy),
    FUNCTION(message_timestamp), FUNCTION(message_errstr),
    FUNCTION(message_headers),   FUNCTION(header_cnt),
    FUNCTION(header_get_all),
};

static const char CLIENT[] = "rd_kafka_t";
static const char UNREADABLE[] = "(header names are not UTF-8)";

/* ---- columns that grow ---- */

static inline void add(buffer_t *buffer, const void *bytes, size_t size) {
    memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
}

/* Which values of a column are not null, and where each ends that has bytes or items. */
typedef struct {
    buffer_t bits, ends;
    size_t rows, nulls;
} nullable_t;

typedef struct {
    nullable_t which;
    buffer_t bytes;
} binary_t;

static int reserve_bits(nullable_t *column, size_t more) {
    return reserve(&column->bits, (column->rows + more + 7) / 8 - column->bits.size);
}

static int reserve_rows(nullable_t *column, size_t more) {
    static const int32_t begin = 0;
    if (!reserve_bits(column, more) || !reserve(&column->ends, (more + 1) * sizeof begin)) return 0;
    if (column->ends.size == 0) add(&column->ends, &begin, sizeof begin);
    return 1;
}

static inline void add_bit(nullable_t *column, int is_there) {
    size_t row = column->rows++;
    if (row % 8 == 0) column->bits.bytes[column->bits.size++] = 0;
    if (is_there)
        column->bits.bytes[row / 8] |= (char)(1 << row % 8);
    else
        column->nulls++;
}

static inline void add_row(nullable_t *column, int is_there, size_t end) {
    int32_t offset = (int32_t)end;
    add_bit(column, is_there);
    add(&column->ends, &offset, sizeof offset);
}

static inline void add_bytes(binary_t *column, const void *bytes, size_t size) {
    if (bytes != NULL && size > 0) add(&column->bytes, bytes, size);
    add_row(&column->which, bytes != NULL, column->bytes.size);
}

static int reserve_bytes(binary_t *column, size_t rows, size_t bytes) {
    return column->bytes.size + bytes <= INT32_MAX && reserve_rows(&column->which, rows) &&
           reserve(&column->bytes, bytes);
}

static int is_utf8(const unsigned char *at) {
    enum { MOST = 4 };
    while (*at) {
        int size = character_size(at, MOST);
        if (size == 0) return 0;
        at += size;
    }
    return 1;
}

/* ---- the gatherer ---- */

typedef struct {
    int32_t partition;
    int64_t position, end; /* offsets that are kept */
    int has_moved;
} window_t;

typedef struct {
    const char *kind;
    int code;
    char *text;
} told_t;

typedef struct {
    PyObject_HEAD
    void *queue;
    int is_busy;
    window_t *windows; /* by partition */
    size_t window_count, window_room;
    message_t **messages;
    size_t message_room;
    buffer_t partitions, offsets;
    nullable_t stamped;
    buffer_t stamps;
    binary_t values, keys;
    nullable_t headers;
    binary_t names, contents;
    buffer_t told; /* told_t after told_t */
} gatherer_t;

/* ---- the plugin ---- */

static _Thread_local void *newest;          /* client that this thread has made */
static _Thread_local gatherer_t *gathering; /* that this thread gathers with just now */

/* Keep what is told while messages are gathered; elsewhere nobody would hear it. */
static void tell(const char *kind, int code, const char *facility, const char *text) {
    gatherer_t *self = gathering;
    size_t size = strlen(facility) + strlen(text) + 3;
    char *line = self == NULL ? NULL : malloc(size);
    if (line == NULL) return;
    if (!reserve(&self->told, sizeof(told_t))) {
        free(line);
        return;
    }
    snprintf(line, size, *facility ? "%s: %s" : "%s%s", facility, text);
    told_t told = {kind, code, line};
    add(&self->told, &told, sizeof told);
}

static void on_error(void *client, int code, const char *text, void *opaque) {
    (void)client, (void)opaque;
    tell("error", code, "", text);
}

static void on_log(const void *client, int level, const char *facility, const char *text) {
    (void)client;
    tell("log", level, facility, text);
}

static int on_stats(void *client, char *json, size_t size, void *opaque) {
    (void)client, (void)size, (void)opaque;
    tell("statistics", 0, "", json);
    return 0; /* librdkafka frees it */
}

__attribute__((visibility("default"))) int32_t conf_init(void *conf, void **opaque, char *text,
                                                         size_t room);

/* confluent-kafka sets callbacks of its own last, so they are replaced as late as can be: the client
 * has no threads yet. newest_client sees whether it went well. */
static int32_t on_new(void *client, const void *conf, void *opaque, char *text, size_t room) {
    (void)opaque, (void)text, (void)room;
    rk.conf_set_error_cb((void *)conf, on_error);
    rk.conf_set_log_cb((void *)conf, on_log);
    rk.conf_set_stats_cb((void *)conf, on_stats);
    newest = client;
    return 0;
}

/* librdkafka calls this where a client is configured. */
int32_t conf_init(void *conf, void **opaque, char *text, size_t room) {
    (void)opaque;
    if (rk.conf_set(conf, "log.queue", "true", text, room)) return -1;
    return rk.conf_interceptor_add_on_new(conf, "batch-collection", on_new, NULL);
}

static size_t place_of(const gatherer_t *self, int32_t partition) {
    size_t low = 0, high = self->window_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (self->windows[middle].partition < partition)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static window_t *window_of(const gatherer_t *self, int32_t partition) {
    size_t place = place_of(self, partition);
    int is_known = place < self->window_count && self->windows[place].partition == partition;
    return is_known ? &self->windows[place] : NULL;
}

static size_t gathered_bytes(const gatherer_t *self) {
    return self->partitions.size + self->offsets.size + self->stamps.size +
           self->values.bytes.size + self->values.which.ends.size + self->keys.bytes.size +
           self->keys.which.ends.size + self->headers.ends.size + self->names.bytes.size +
           self->names.which.ends.size + self->contents.bytes.size +
           self->contents.which.ends.size;
}

/* Make room for all of some messages, so that none is half added where there is too little. */
static int reserve_messages(gatherer_t *self, size_t count) {
    size_t values = 0, keys = 0, headers = 0, names = 0, contents = 0;
    for (size_t each = 0; each < count; each++) {
        message_t *message = self->messages[each];
        void *found;
        if (message->err) continue;
        values += message->len;
        keys += message->key_len;
        if (rk.message_headers(message, &found)) continue;
        size_t length = rk.header_cnt(found);
        headers += length + 1; /* or what stands for those that can't be read */
        names += sizeof UNREADABLE;
        for (size_t header = 0; header < length; header++) {
            const char *name;
            const void *content;
            size_t size;
            if (rk.header_get_all(found, header, &name, &content, &size)) break;
            names += strlen(name);
            contents += size;
        }
    }
    return reserve(&self->partitions, count * sizeof(int32_t)) &&
           reserve(&self->offsets, count * sizeof(int64_t)) &&
           reserve_bits(&self->stamped, count) &&
           reserve(&self->stamps, count * sizeof(int64_t)) &&
           reserve_bytes(&self->values, count, values) &&
           reserve_bytes(&self->keys, count, keys) && reserve_rows(&self->headers, count) &&
           reserve_bytes(&self->names, headers, names) &&
           reserve_bytes(&self->contents, headers, contents);
}

static void add_headers(gatherer_t *self, const message_t *message) {
    void *found;
    const char *name;
    const void *content;
    size_t size;
    if (rk.message_headers(message, &found)) {
        add_row(&self->headers, 0, self->names.which.rows);
        return;
    }
    int is_readable = 1;
    for (size_t each = 0; !rk.header_get_all(found, each, &name, &content, &size); each++)
        is_readable = is_readable && is_utf8((const unsigned char *)name);
    if (!is_readable) {
        add_bytes(&self->names, UNREADABLE, sizeof UNREADABLE - 1);
        add_bytes(&self->contents, NULL, 0);
    }
    for (size_t each = 0;
         is_readable && !rk.header_get_all(found, each, &name, &content, &size); each++) {
        add_bytes(&self->names, name, strlen(name));
        add_bytes(&self->contents, content, size);
    }
    add_row(&self->headers, 1, self->names.which.rows);
}

static void add_message(gatherer_t *self, const message_t *message) {
    int32_t kind;
    int64_t stamp = rk.message_timestamp(message, &kind);
    add(&self->partitions, &message->partition, sizeof message->partition);
    add(&self->offsets, &message->offset, sizeof message->offset);
    add_bit(&self->stamped, kind != 0);
    add(&self->stamps, &stamp, sizeof stamp);
    add_bytes(&self->values, message->payload, message->len);
    add_bytes(&self->keys, message->key, message->key_len);
    add_headers(self, message);
}

/* Add the messages that lie in their partition's window; bring events to the front, and return how
 * many there are. Those are left, all else is destroyed. */
static size_t add_messages(gatherer_t *self, size_t count) {
    size_t events = 0;
    window_t *window = NULL;
    for (size_t each = 0; each < count; each++) {
        message_t *message = self->messages[each];
        if (message->err) {
            self->messages[events++] = message;
            continue;
        }
        if (window == NULL || window->partition != message->partition)
            window = window_of(self, message->partition);
        if (window != NULL && window->position <= message->offset &&
            message->offset < window->end)
            add_message(self, message);
        if (window != NULL && window->position <= message->offset) {
            window->position = message->offset + 1;
            window->has_moved = 1;
        }
        rk.message_destroy(message);
    }
    return events;
}

static void destroy(gatherer_t *self, size_t count) {
    for (size_t each = 0; each < count; each++) rk.message_destroy(self->messages[each]);
}

static PyObject *event_of(const message_t *message) {
    const char *text = rk.message_errstr(message);
    return Py_BuildValue("(isiL)", (int)message->err, text, (int)message->partition,
                         (long long)message->offset);
}

static PyObject *events_of(const gatherer_t *self, size_t count) {
    PyObject *events = PyList_New(0);
    for (size_t each = 0; events != NULL && each < count; each++) {
        PyObject *event = event_of(self->messages[each]);
        if (event == NULL || PyList_Append(events, event) < 0) Py_CLEAR(events);
        Py_XDECREF(event);
    }
    return events;
}

static PyObject *moves_of(gatherer_t *self) {
    PyObject *moves = PyList_New(0);
    for (size_t each = 0; moves != NULL && each < self->window_count; each++) {
        window_t *window = &self->windows[each];
        if (!window->has_moved) continue;
        window->has_moved = 0;
        PyObject *move =
            Py_BuildValue("(iL)", (int)window->partition, (long long)window->position);
        if (move == NULL || PyList_Append(moves, move) < 0) Py_CLEAR(moves);
        Py_XDECREF(move);
    }
    return moves;
}

static void forget_told(gatherer_t *self) {
    told_t *told = (told_t *)self->told.bytes;
    for (size_t each = 0; each < self->told.size / sizeof *told; each++) free(told[each].text);
    self->told.size = 0;
}

static PyObject *told_to(gatherer_t *self) {
    const told_t *told = (const told_t *)self->told.bytes;
    PyObject *found = PyList_New(0);
    for (size_t each = 0; found != NULL && each < self->told.size / sizeof *told; each++) {
        PyObject *text =
            PyUnicode_DecodeUTF8(told[each].text, (Py_ssize_t)strlen(told[each].text), "replace");
        PyObject *line = Py_BuildValue("(siN)", told[each].kind, told[each].code, text);
        if (line == NULL || PyList_Append(found, line) < 0) Py_CLEAR(found);
        Py_XDECREF(line);
    }
    forget_told(self);
    return found;
}

static int is_usable(const gatherer_t *self) {
    if (self->queue != NULL && !self->is_busy) return 1;
    PyErr_SetString(PyExc_ValueError, "the gatherer is closed, or another thread uses it");
    return 0;
}

static PyObject *gatherer_expect(gatherer_t *self, PyObject *args) {
    int partition;
    long long start, end;
    if (!PyArg_ParseTuple(args, "iLL", &partition, &start, &end) || !is_usable(self)) return NULL;
    size_t place = place_of(self, partition);
    if (window_of(self, partition) == NULL) {
        if (self->window_count == self->window_room) {
            size_t room = self->window_room * 2 + 8;
            window_t *windows = realloc(self->windows, room * sizeof *windows);
            if (windows == NULL) return PyErr_NoMemory();
            self->windows = windows;
            self->window_room = room;
        }
        window_t *at = &self->windows[place];
        memmove(at + 1, at, (self->window_count++ - place) * sizeof *at);
    }
    self->windows[place] = (window_t){partition, start, end, 0};
    Py_RETURN_NONE;
}

static PyObject *gatherer_gather(gatherer_t *self, PyObject *args) {
    int most, milliseconds, has_room = 1;
    size_t events = 0;
    if (!PyArg_ParseTuple(args, "ii", &most, &milliseconds) || !is_usable(self)) return NULL;
    if (most < 1) {
        PyErr_SetString(PyExc_ValueError, "ask for at least one message");
        return NULL;
    }
    if ((size_t)most > self->message_room) {
        message_t **messages = realloc(self->messages, (size_t)most * sizeof *messages);
        if (messages == NULL) return PyErr_NoMemory();
        self->messages = messages;
        self->message_room = (size_t)most;
    }
    self->is_busy = 1;
    ssize_t count;
    Py_BEGIN_ALLOW_THREADS;
    gathering = self;
    count = rk.consume_batch_queue(self->queue, milliseconds, self->messages, (size_t)most);
    gathering = NULL;
    if (count > 0) {
        has_room = reserve_messages(self, (size_t)count);
        if (has_room)
            events = add_messages(self, (size_t)count);
        else
            destroy(self, (size_t)count);
    }
    Py_END_ALLOW_THREADS;
    self->is_busy = 0;
    if (count < 0) {
        PyErr_SetString(PyExc_OSError, "librdkafka gives no messages of this queue");
        return NULL;
    }
    if (!has_room) return PyErr_NoMemory();
    PyObject *happened = events_of(self, events);
    destroy(self, events);
    return Py_BuildValue("(nnnNNN)", (Py_ssize_t)count, (Py_ssize_t)self->stamped.rows,
                         (Py_ssize_t)gathered_bytes(self), moves_of(self), happened,
                         told_to(self));
}

/* ---- handing over ---- */

static PyObject *given_which(nullable_t *column) {
    PyObject *found = Py_BuildValue("(nnNN)", (Py_ssize_t)column->rows,
                                    (Py_ssize_t)column->nulls, given(&column->bits),
                                    given(&column->ends));
    column->rows = column->nulls = 0;
    return found;
}

static PyObject *given_binary(binary_t *column) {
    return Py_BuildValue("(NN)", given_which(&column->which), given(&column->bytes));
}

static PyObject *gatherer_take(gatherer_t *self, PyObject *unused) {
    (void)unused;
    if (!is_usable(self)) return NULL;
    if (self->stamped.rows == 0) Py_RETURN_NONE;
    return Py_BuildValue("(NN(NN)NN(NNN))", given(&self->partitions), given(&self->offsets),
                         given_which(&self->stamped), given(&self->stamps),
                         given_binary(&self->values), given_binary(&self->keys),
                         given_which(&self->headers), given_binary(&self->names),
                         given_binary(&self->contents));
}

static PyObject *gatherer_close(gatherer_t *self, PyObject *unused) {
    (void)unused;
    if (self->queue == NULL) Py_RETURN_NONE;
    if (!is_usable(self)) return NULL;
    void *queue = self->queue;
    self->queue = NULL;
    Py_BEGIN_ALLOW_THREADS;
    rk.queue_destroy(queue); /* our reference to it */
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

static void clear(nullable_t *column) {
    release(&column->bits);
    release(&column->ends);
}

static void gatherer_dealloc(gatherer_t *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (self->queue != NULL) rk.queue_destroy(self->queue);
    clear(&self->stamped);
    clear(&self->values.which);
    clear(&self->keys.which);
    clear(&self->headers);
    clear(&self->names.which);
    clear(&self->contents.which);
    release(&self->partitions);
    release(&self->offsets);
    release(&self->stamps);
    release(&self->values.bytes);
    release(&self->keys.bytes);
    release(&self->names.bytes);
    release(&self->contents.bytes);
    forget_told(self);
    release(&self->told);
    free(self->windows);
    free(self->messages);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

static PyObject *gatherer_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    PyObject *capsule;
    if (named != NULL && PyDict_Size(named) > 0) {
        PyErr_SetString(PyExc_TypeError, "a Gatherer takes a client, and nothing by name");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O", &capsule)) return NULL;
    void *client = PyCapsule_GetPointer(capsule, CLIENT);
    if (client == NULL) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    gatherer_t *self = (gatherer_t *)allocate(type, 0); /* all of it zero */
    if (self == NULL) return NULL;
    self->queue = rk.queue_get_consumer(client);
    return (PyObject *)self;
}

static PyMethodDef GATHERER_METHODS[] = {
    {"expect", (PyCFunction)gatherer_expect, METH_VARARGS, NULL},
    {"gather", (PyCFunction)gatherer_gather, METH_VARARGS, NULL},
    {"take", (PyCFunction)gatherer_take, METH_NOARGS, NULL},
    {"close", (PyCFunction)gatherer_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot GATHERER_SLOTS[] = {
    {Py_tp_new, (void *)gatherer_new},
    {Py_tp_dealloc, (void *)gatherer_dealloc},
    {Py_tp_methods, GATHERER_METHODS},
    {0, NULL},
};

static PyType_Spec GATHERER = {
    "transforms.sources.kafka.gather.Gatherer", sizeof(gatherer_t), 0, Py_TPFLAGS_DEFAULT,
    GATHERER_SLOTS,
};

/* ---- the module ---- */

static PyObject *bind(PyObject *module, PyObject *args) {
    (void)module;
    const char *linked;
    if (!PyArg_ParseTuple(args, "s", &linked)) return NULL;
    void *library = dlopen(linked, RTLD_NOW); /* kept; what it was linked with is looked up, too */
    if (library == NULL) return PyErr_Format(PyExc_OSError, "%s", dlerror());
    for (size_t each = 0; each < sizeof FUNCTIONS / sizeof *FUNCTIONS; each++) {
        *FUNCTIONS[each].at = dlsym(library, FUNCTIONS[each].name);
        if (*FUNCTIONS[each].at == NULL)
            return PyErr_Format(PyExc_OSError, "confluent-kafka's librdkafka has no %s",
                                FUNCTIONS[each].name);
    }
    Py_RETURN_NONE;
}

static int calls(void *client, const char *property, void (*function)(void)) {
    char found[64], wanted[64];
    size_t size = sizeof found;
    snprintf(wanted, sizeof wanted, "%p", *(void **)&function);
    return !rk.conf_get(rk.conf(client), property, found, &size) && !strcmp(found, wanted);
}

static int calls_only_us(void *client) {
    return calls(client, "error_cb", (void (*)(void))on_error) &&
           calls(client, "log_cb", (void (*)(void))on_log) &&
           calls(client, "stats_cb", (void (*)(void))on_stats);
}

static PyObject *newest_client(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    void *client = newest;
    newest = NULL;
    if (client != NULL && calls_only_us(client) && !rk.set_log_queue(client, NULL))
        return PyCapsule_New(client, CLIENT, NULL);
    PyErr_SetString(PyExc_OSError, "this version of librdkafka treats its plugins otherwise");
    return NULL;
}

static PyMethodDef METHODS[] = {
    {"bind", bind, METH_VARARGS, NULL},
    {"newest_client", newest_client, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "gather", NULL, -1, METHODS, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_gather(void) {
    PyObject *module = PyModule_Create(&MODULE);
    if (module == NULL) return NULL;
    PyObject *type = PyType_FromSpec(&GATHERER);
    if (type == NULL || PyModule_AddObject(module, "Gatherer", type) < 0) {
        Py_XDECREF(type);
        Py_CLEAR(module);
    }
    return module;
}
