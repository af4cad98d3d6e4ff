/* The numbers from 0 on, sorted by their hashes: the random orders that order.py defines.
 *
 * Hashes are evenly spread, so their first bits tell nearly where each belongs. They are dealt to
 * buckets that the nearest cache holds, and within each to bins of less than one number on average;
 * what little is then out of order moves by a place or two.
 */
#define Py_LIMITED_API 0x030A0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum {
    BIN_BITS = 10, /* of a bucket: twice as many bins as order.py lets it hold numbers */
    TILE = 1024,   /* hashes that are made at once */
};

/* What is sorted: the upper bits of a hash, and below them the number that it is of. */
typedef struct {
    uint64_t numbers; /* the bits that hold the number */
    uint64_t state;   /* with which all hashes are made */
} sorting_t;

/* The finalizer of SplitMix64 (Steele et al. 2014), one to one. */
static inline uint64_t scrambled(uint64_t value) {
    value += 0x9E3779B97F4A7C15U;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
    return value ^ (value >> 31);
}

static inline uint64_t hash_of(uint64_t number, uint64_t state) {
    return scrambled(scrambled(number) ^ state);
}

#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__) && __GNUC__ >= 12
/* instructions for many at once, where the processor has them */
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
static void make_tile(sorting_t how, uint64_t first, size_t count, uint64_t *tile) {
    for (size_t each = 0; each < count; each++) {
        uint64_t number = first + each;
        tile[each] = (hash_of(number, how.state) & ~how.numbers) | number;
    }
}

/* Deal all to buckets, each of which has so much room; 0: one has too little. */
static int deal(sorting_t how, uint64_t count, int bits, uint64_t *buckets, uint32_t *sizes,
                uint32_t room) {
    uint64_t tile[TILE];
    for (uint64_t first = 0; first < count; first += TILE) {
        size_t many = count - first < TILE ? (size_t)(count - first) : TILE;
        make_tile(how, first, many, tile);
        for (size_t each = 0; each < many; each++) {
            uint64_t bucket = tile[each] >> (64 - bits);
            if (sizes[bucket] == room) return 0;
            buckets[bucket * room + sizes[bucket]++] = tile[each];
        }
    }
    return 1;
}

/* Put a number before those whose hashes have the same upper bits, but are larger: a rare case. */
static void settle(sorting_t how, uint64_t *sorted, uint32_t place) {
    uint64_t moved = sorted[place], hash = hash_of(moved & how.numbers, how.state);
    for (; place > 0 && ((moved ^ sorted[place - 1]) & ~how.numbers) == 0 &&
           hash < hash_of(sorted[place - 1] & how.numbers, how.state);
         place--)
        sorted[place] = sorted[place - 1];
    sorted[place] = moved;
}

/* Sort a bucket, whose first bits are all alike, and write its numbers. */
static void sort(sorting_t how, const uint64_t *bucket, uint32_t size, int bits, uint64_t *sorted) {
    uint16_t ends[1 << BIN_BITS] = {0}, end = 0;
    int shift = 64 - bits - BIN_BITS;
    for (uint32_t each = 0; each < size; each++) ends[(bucket[each] >> shift) % (1 << BIN_BITS)]++;
    for (int bin = 0; bin < 1 << BIN_BITS; bin++) {
        uint16_t count = ends[bin];
        ends[bin] = end;
        end += count;
    }
    for (uint32_t each = 0; each < size; each++)
        sorted[ends[(bucket[each] >> shift) % (1 << BIN_BITS)]++] = bucket[each];
    for (uint32_t each = 1; each < size; each++) {
        uint64_t moved = sorted[each];
        uint32_t place = each;
        for (; place > 0 && moved < sorted[place - 1]; place--) sorted[place] = sorted[place - 1];
        sorted[place] = moved;
    }
    for (uint32_t each = 1; each < size; each++)
        if (((sorted[each] ^ sorted[each - 1]) & ~how.numbers) == 0) settle(how, sorted, each);
    for (uint32_t each = 0; each < size; each++) sorted[each] &= how.numbers;
}

static int put_in_order(sorting_t how, uint64_t count, int bits, uint64_t *buckets,
                        uint32_t *sizes, uint32_t room, uint64_t *order) {
    if (!deal(how, count, bits, buckets, sizes, room)) return 0;
    for (uint64_t bucket = 0; bucket < UINT64_C(1) << bits; bucket++) {
        sort(how, buckets + bucket * room, sizes[bucket], bits, order);
        order += sizes[bucket];
    }
    return 1;
}

static PyObject *sort_numbers(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long state, count;
    int bits, room;
    Py_ssize_t buckets, order;
    if (!PyArg_ParseTuple(args, "KKiinn", &state, &count, &bits, &room, &buckets, &order))
        return NULL;
    uint32_t *sizes = PyMem_Calloc((size_t)1 << bits, sizeof *sizes);
    if (sizes == NULL) return PyErr_NoMemory();
    sorting_t how = {.state = state, .numbers = 1};
    while (how.numbers < count) how.numbers = how.numbers << 1 | 1;
    int is_sorted;
    Py_BEGIN_ALLOW_THREADS;
    is_sorted = put_in_order(how, count, bits, (uint64_t *)buckets, sizes, (uint32_t)room,
                             (uint64_t *)order);
    Py_END_ALLOW_THREADS;
    PyMem_Free(sizes);
    return PyBool_FromLong(is_sorted);
}

static PyMethodDef METHODS[] = {
    {"sort_numbers", sort_numbers, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "random_order", NULL, -1, METHODS, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_random_order(void) { return PyModule_Create(&MODULE); }
