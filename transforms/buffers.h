/* Bytes that grow, and are given away to Python as Arrow's buffers without a copy.
 *
 * On Linux large ones are pages of their own: they grow without a copy, and go back to the system
 * when they are freed. malloc would keep them, scattered over the heaps of all threads.
 */
#ifndef BATCH_COLLECTION_BUFFERS_H
#define BATCH_COLLECTION_BUFFERS_H

#ifdef __linux__
#include <sys/mman.h>
#endif

enum {
    PADDING = 64,      /* Arrow's kernels like some room behind the end */
    PAGED = 64 * 1024, /* bytes from which it is worth it, a multiple of all sizes of pages */
};

typedef struct {
    char *bytes;
    size_t size, room; /* so many are used, and are there: in pages from PAGED on */
} buffer_t;

#ifdef __linux__
static int has_pages(size_t room) { return room >= PAGED; }
static size_t rounded(size_t room) { return (room + PAGED - 1) / PAGED * PAGED; }

static char *pages(buffer_t *buffer, size_t room) {
    void *found;
    if (has_pages(buffer->room)) {
        found = mremap(buffer->bytes, buffer->room, room, MREMAP_MAYMOVE);
        return found == MAP_FAILED ? NULL : found;
    }
    found = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED) return NULL;
    if (buffer->bytes != NULL) memcpy(found, buffer->bytes, buffer->room);
    free(buffer->bytes);
    return found;
}

static void free_bytes(char *bytes, size_t room) {
    if (has_pages(room))
        munmap(bytes, room);
    else
        free(bytes);
}
#else
static int has_pages(size_t room) { return (void)room, 0; }
static size_t rounded(size_t room) { return room; }
static char *pages(buffer_t *buffer, size_t room) { return realloc(buffer->bytes, room); }
static void free_bytes(char *bytes, size_t room) { (void)room, free(bytes); }
#endif

static int set_room(buffer_t *buffer, size_t room) {
    if (has_pages(room)) room = rounded(room);
    char *bytes = has_pages(room) ? pages(buffer, room) : realloc(buffer->bytes, room);
    if (bytes == NULL) return 0;
    buffer->bytes = bytes;
    buffer->room = room;
    return 1;
}

/* Make room for so many bytes more; 0: there is no memory. */
static inline int reserve(buffer_t *buffer, size_t more) {
    if (buffer->bytes != NULL && more <= buffer->room - buffer->size) return 1;
    size_t room = buffer->size + more + PADDING;
    return set_room(buffer, room < buffer->room * 2 ? buffer->room * 2 : room);
}

static void release(buffer_t *buffer) {
    free_bytes(buffer->bytes, buffer->room);
    *buffer = (buffer_t){0};
}

static void free_given(PyObject *capsule) {
    free_bytes(PyCapsule_GetPointer(capsule, NULL), (size_t)PyCapsule_GetContext(capsule));
}

/* Give a buffer away as (address, size, what keeps it), without what it has too much. */
static PyObject *given(buffer_t *buffer) {
    if (buffer->bytes == NULL) Py_RETURN_NONE;
    size_t fitting = buffer->size + PADDING;
    set_room(buffer, has_pages(buffer->room) && fitting < PAGED ? PAGED : fitting);
    PyObject *owner = PyCapsule_New(buffer->bytes, NULL, free_given);
    if (owner == NULL) return NULL;
    PyCapsule_SetContext(owner, (void *)buffer->room);
    PyObject *found = Py_BuildValue("(NnN)", PyLong_FromVoidPtr(buffer->bytes),
                                    (Py_ssize_t)buffer->size, owner);
    *buffer = (buffer_t){0};
    return found;
}

#endif
