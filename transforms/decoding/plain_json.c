/* JSON messages as Arrow's columns, in one pass over their bytes: those that are plain.
 *
 * A message is plain if it is one JSON text of a known type that its columns hold as it is: no field
 * that is unknown or there twice, no number that a column would round, no text that is not Unicode.
 * What is not plain is left out, whole, and told: it is read by what knows why (json_rows.py). So
 * this file never decides that a message is bad, and may refuse whatever is rare.
 */
#define Py_LIMITED_API 0x030A0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "buffers.h"
#include "utf8.h"

/* ---- columns ---- */

typedef enum {
    NOTHING = 'n', /* nulls */
    BOOLEAN = 'b',
    SIGNED = 'i',
    UNSIGNED = 'u',
    DOUBLE = 'd',
    TEXT = 't',
    LIST = 'l',
    OBJECT = 's',
} kind_t;

typedef struct column {
    kind_t kind;
    size_t width;      /* bytes of a value; of texts and lists: of where each ends */
    size_t rows, room; /* room for so many rows */
    buffer_t bits;     /* which rows are no null */
    buffer_t values;   /* numbers; booleans as bits; where each text or list ends */
    buffer_t bytes;    /* of texts */
    int is_whole;      /* it has no nulls */
    size_t count;      /* of fields; a list has one, its element */
    struct column *fields;
    const char *name; /* as it is in a message, between its quotes */
    size_t name_size;
    uint64_t seen; /* the number of the object that last had this field */
} column_t;

static int make_room(column_t *column, size_t room) {
    int is_first = column->values.bytes == NULL;
    if (!set_room(&column->bits, room / 8 + PADDING)) return 0;
    if (column->width > 0) {
        if (!set_room(&column->values, (room + 1) * column->width + PADDING)) return 0;
        if (is_first) memset(column->values.bytes, 0, column->width); /* a first text begins there */
    }
    column->room = room;
    return 1;
}

static inline void add_bit(buffer_t *bits, size_t row, int is_set) {
    if (row % 8 == 0) bits->bytes[row / 8] = 0;
    bits->bytes[row / 8] |= (char)(is_set << row % 8);
}

/* Begin a row; its value is written next. */
static inline int begin_row(column_t *column, int is_there) {
    if (column->rows == column->room && !make_room(column, column->room * 2 + 64)) return 0;
    add_bit(&column->bits, column->rows, is_there);
    return 1;
}

static inline int32_t *ends(const column_t *column) { return (int32_t *)column->values.bytes; }

static int add_null(column_t *column) {
    if (!begin_row(column, 0)) return 0;
    size_t row = column->rows++;
    switch (column->kind) {
        case NOTHING:
            break;
        case BOOLEAN:
            add_bit(&column->values, row, 0);
            break;
        case SIGNED:
        case UNSIGNED:
        case DOUBLE:
            memset(column->values.bytes + row * column->width, 0, column->width);
            break;
        case TEXT:
        case LIST:
            ends(column)[row + 1] = ends(column)[row];
            break;
        case OBJECT:
            for (size_t each = 0; each < column->count; each++)
                if (!add_null(&column->fields[each])) return 0;
    }
    return 1;
}

/* Forget all but the first rows, also of fields that have more: the last object may be begun. */
static void truncate_to(column_t *column, size_t rows) {
    size_t below = rows;
    if (column->room > 0) {
        char kept = (char)((1 << rows % 8) - 1);
        column->bits.bytes[rows / 8] &= kept;
        if (column->kind == BOOLEAN) column->values.bytes[rows / 8] &= kept;
        if (column->kind == TEXT) column->bytes.size = (size_t)ends(column)[rows];
        if (column->kind == LIST) below = (size_t)ends(column)[rows];
    } else if (column->kind == LIST) {
        below = 0;
    }
    column->rows = rows;
    for (size_t each = 0; each < column->count; each++)
        truncate_to(&column->fields[each], below);
}

static size_t nulls_of(const column_t *column) {
    size_t there = 0;
    for (size_t each = 0; each < (column->rows + 7) / 8; each++)
        there += (size_t)__builtin_popcount((unsigned char)column->bits.bytes[each]);
    return column->rows - there;
}

static void release_column(column_t *column) {
    release(&column->bits);
    release(&column->values);
    release(&column->bytes);
    for (size_t each = 0; each < column->count; each++) release_column(&column->fields[each]);
    free(column->fields);
}

/* ---- texts ---- */

typedef struct {
    const unsigned char *at, *end;
    uint64_t objects; /* so many have begun */
    int is_full;      /* there is no memory */
} text_t;

static inline int full(text_t *text) {
    text->is_full = 1;
    return 0;
}

/* Return the next byte that is no white space, 0 at the end. */
static inline unsigned char next(text_t *text) {
    while (text->at < text->end) {
        unsigned char byte = *text->at;
        if (byte > ' ') return byte;
        if (byte != ' ' && byte != '\n' && byte != '\r' && byte != '\t') return 0;
        text->at++;
    }
    return 0;
}

static inline int skip(text_t *text, const char *word, size_t size) {
    if ((size_t)(text->end - text->at) < size || memcmp(text->at, word, size) != 0) return 0;
    text->at += size;
    return 1;
}

static inline unsigned char *put(unsigned char *to, uint32_t point) {
    if (point < 0x80) {
        *to++ = (unsigned char)point;
        return to;
    }
    if (point < 0x800) {
        *to++ = (unsigned char)(0xC0 | point >> 6);
    } else {
        if (point < 0x10000) {
            *to++ = (unsigned char)(0xE0 | point >> 12);
        } else {
            *to++ = (unsigned char)(0xF0 | point >> 18);
            *to++ = (unsigned char)(0x80 | (point >> 12 & 0x3F));
        }
        *to++ = (unsigned char)(0x80 | (point >> 6 & 0x3F));
    }
    *to++ = (unsigned char)(0x80 | (point & 0x3F));
    return to;
}

/* Read \uXXXX. */
static int read_unit(text_t *text, uint32_t *unit) {
    if (text->end - text->at < 6 || text->at[0] != '\\' || text->at[1] != 'u') return 0;
    *unit = 0;
    for (int place = 2; place < 6; place++) {
        unsigned char byte = text->at[place];
        unsigned char letter = byte | 0x20;
        if (byte >= '0' && byte <= '9')
            *unit = *unit << 4 | (uint32_t)(byte - '0');
        else if (letter >= 'a' && letter <= 'f')
            *unit = *unit << 4 | (uint32_t)(letter - 'a' + 10);
        else
            return 0;
    }
    text->at += 6;
    return 1;
}

/* Write what an escape means; return where to go on, NULL where it means no character but NUL. */
static unsigned char *unescape(text_t *text, unsigned char *to) {
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    uint32_t point, low;
    if (text->end - text->at < 2) return NULL;
    if (text->at[1] != 'u') {
        const char *found = text->at[1] ? strchr(escapes, text->at[1]) : NULL;
        if (found == NULL) return NULL;
        text->at += 2;
        *to++ = (unsigned char)meant[found - escapes];
        return to;
    }
    if (!read_unit(text, &point) || point == 0 || (point >= 0xDC00 && point <= 0xDFFF)) return NULL;
    if (point >= 0xD800 && point <= 0xDBFF) {
        if (!read_unit(text, &low) || low < 0xDC00 || low > 0xDFFF) return NULL;
        point = 0x10000 + ((point & 0x3FF) << 10 | (low & 0x3FF));
    }
    return put(to, point);
}

/* Copy a character; NULL where it is no UTF-8. */
static unsigned char *copy_character(text_t *text, unsigned char *to) {
    int size = character_size(text->at, text->end - text->at);
    if (size == 0) return NULL;
    memcpy(to, text->at, (size_t)size);
    text->at += size;
    return to + size;
}

#define EACH(byte) (0x0101010101010101u * (byte))

/* Mark each byte that may not simply be copied, at least the first of them. */
static inline uint64_t marked(uint64_t word) {
    uint64_t quote = word ^ EACH('"'), escape = word ^ EACH('\\');
    return (((quote - EACH(1)) & ~quote) | ((escape - EACH(1)) & ~escape) |
            ((word - EACH(' ')) & ~word) | word) &
           EACH(0x80u);
}

static int read_text(column_t *column, text_t *text) {
    if (next(text) != '"') return 0;
    text->at++;
    size_t most = (size_t)(text->end - text->at); /* no escape is shorter than what it means */
    if (column->bytes.size + most > INT32_MAX) return 0;
    if (!reserve(&column->bytes, most + 8)) return full(text);
    unsigned char *to = (unsigned char *)column->bytes.bytes + column->bytes.size;
    for (;;) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        while (text->end - text->at >= 8) {
            uint64_t word;
            memcpy(&word, text->at, 8);
            memcpy(to, &word, 8);
            uint64_t marks = marked(word);
            int plain = marks ? __builtin_ctzll(marks) / 8 : 8;
            text->at += plain;
            to += plain;
            if (marks) break;
        }
#endif
        if (text->at == text->end || *text->at < ' ') return 0;
        if (*text->at == '"') break;
        if (*text->at == '\\')
            to = unescape(text, to);
        else if (*text->at >= 0x80)
            to = copy_character(text, to);
        else
            *to++ = *text->at++;
        if (to == NULL) return 0;
    }
    text->at++;
    if (!begin_row(column, 1)) return full(text);
    column->bytes.size = (size_t)((char *)to - column->bytes.bytes);
    ends(column)[++column->rows] = (int32_t)column->bytes.size;
    return 1;
}

/* ---- numbers ---- */

typedef struct {
    uint64_t digits;  /* all of them, as an integer */
    int32_t exponent; /* of 10, by which they are multiplied */
    int is_negative, is_integer;
} number_t;

enum { MOST_DIGITS = 19 }; /* a uint64_t holds */

static inline int is_digit(unsigned char byte) { return (unsigned char)(byte - '0') < 10; }

static inline const unsigned char *read_digits(const text_t *text, const unsigned char *at,
                                               uint64_t *digits) {
    uint64_t found = *digits;
    while (at < text->end && is_digit(*at)) found = found * 10 + (uint64_t)(*at++ - '0');
    *digits = found;
    return at;
}

static int read_number(text_t *text, number_t *number) {
    *number = (number_t){0, 0, 0, 1};
    if (next(text) == '-') {
        number->is_negative = 1;
        text->at++;
    }
    const unsigned char *first = text->at, *at = first;
    if (at < text->end && *at == '0')
        at++; /* another digit would be what may not follow a number */
    else
        at = read_digits(text, at, &number->digits);
    ptrdiff_t count = at - first;
    if (count == 0) return 0;
    if (at < text->end && *at == '.') {
        const unsigned char *point = at++;
        at = read_digits(text, at, &number->digits);
        ptrdiff_t fraction = at - point - 1;
        if (fraction == 0) return 0;
        number->is_integer = 0;
        number->exponent = fraction > INT16_MAX ? INT16_MIN : (int32_t)-fraction;
        count += fraction;
    }
    if (count > MOST_DIGITS) {
        const unsigned char *leading = first;
        while (leading < at && (*leading == '0' || *leading == '.')) count -= *leading++ == '0';
        if (count > MOST_DIGITS) return 0;
    }
    if (at < text->end && (*at | 0x20) == 'e') {
        uint64_t exponent = 0;
        int is_negative = 0;
        if (++at < text->end && (*at == '-' || *at == '+')) is_negative = *at++ == '-';
        const unsigned char *begin = at;
        at = read_digits(text, at, &exponent);
        if (at == begin || at - begin > 4) return 0;
        number->is_integer = 0;
        number->exponent += is_negative ? -(int32_t)exponent : (int32_t)exponent;
    }
    text->at = at;
    return 1;
}

static int read_integer(column_t *column, text_t *text) {
    number_t number;
    if (!read_number(text, &number) || !number.is_integer) return 0;
    uint64_t half = (uint64_t)1 << (column->width * 8 - 1), most = half - 1;
    if (column->kind == UNSIGNED) {
        most += half;
        if (number.is_negative) return 0;
    }
    if (number.digits > most + (uint64_t)number.is_negative) return 0;
    uint64_t value = number.is_negative ? -number.digits : number.digits;
    if (!begin_row(column, 1)) return full(text);
    char *to = column->values.bytes + column->rows++ * column->width;
    switch (column->width) {
        case 1:
            memcpy(to, &(uint8_t){(uint8_t)value}, 1);
            break;
        case 2:
            memcpy(to, &(uint16_t){(uint16_t)value}, 2);
            break;
        case 4:
            memcpy(to, &(uint32_t){(uint32_t)value}, 4);
            break;
        default:
            memcpy(to, &value, 8);
    }
    return 1;
}

enum { LEAST_POWER = -342, MOST_POWER = 308, POWERS = MOST_POWER - LEAST_POWER + 1 };

/* 5 ** power of each power: its upper 128 bits, the higher half first. */
static uint64_t POWERS_OF_FIVE[2 * POWERS];

static const double EXACT_POWERS_OF_TEN[] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};
enum { MOST_EXACT_POWER = 22 };
static const uint64_t MOST_EXACT_INTEGER = (uint64_t)1 << DBL_MANT_DIG;

__extension__ typedef unsigned __int128 uint128_t;

/* Return the bits of the double nearest to digits * 10 ** power, neither of them 0; 0 where that is
 * no normal one. Lemire, "Number Parsing at a Gigabyte per Second" (2021), algorithm 1; that it needs
 * no more than 128 bits is shown by Mushtak and Lemire, "Fast Number Parsing Without Fallback". */
static uint64_t nearest(uint64_t digits, int32_t power) {
    if (power < LEAST_POWER || power > MOST_POWER) return 0;
    const uint64_t *five = &POWERS_OF_FIVE[2 * (power - LEAST_POWER)];
    int leading = __builtin_clzll(digits);
    digits <<= leading;
    uint128_t product = (uint128_t)digits * five[0];
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    if ((high & 0x1FF) == 0x1FF) { /* more bits may matter */
        uint64_t more = (uint64_t)((uint128_t)digits * five[1] >> 64);
        low += more;
        high += low < more;
    }
    int is_upper = (int)(high >> 63), shift = is_upper + 9;
    uint64_t mantissa = high >> shift; /* with one bit more than a double has */
    int exponent = (int)((217706 * (int64_t)power) >> 16) + 63 + is_upper - leading + 1023;
    if (exponent <= 0) return 0;
    if (low <= 1 && power >= -4 && power <= 23 && (mantissa & 3) == 1 && mantissa << shift == high)
        mantissa &= ~(uint64_t)1; /* just between two doubles: to the even one */
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (mantissa >> 53) {
        mantissa >>= 1;
        exponent++;
    }
    if (exponent >= 2047) return 0;
    return (uint64_t)exponent << 52 | (mantissa & (((uint64_t)1 << 52) - 1));
}

static int read_double(column_t *column, text_t *text) {
    number_t number;
    double value;
    if (!read_number(text, &number)) return 0;
    int is_exact = number.digits <= MOST_EXACT_INTEGER;
    if (number.is_integer && !is_exact) return 0; /* it may be rounded */
    if (number.digits == 0) {
        if (number.exponent > MOST_POWER) return 0; /* too large for pyarrow, though it is 0 */
        value = 0;
    } else if (FLT_EVAL_METHOD == 0 && is_exact && number.exponent <= MOST_EXACT_POWER &&
               number.exponent >= -MOST_EXACT_POWER) { /* both are exact, so one rounding is right */
        value = (double)number.digits;
        if (number.exponent < 0)
            value /= EXACT_POWERS_OF_TEN[-number.exponent];
        else
            value *= EXACT_POWERS_OF_TEN[number.exponent];
    } else {
        uint64_t bits = nearest(number.digits, number.exponent);
        if (bits == 0) return 0;
        memcpy(&value, &bits, sizeof value);
    }
    if (number.is_negative) value = -value;
    if (!begin_row(column, 1)) return full(text);
    memcpy(column->values.bytes + column->rows++ * sizeof value, &value, sizeof value);
    return 1;
}

/* ---- values ---- */

static int read_boolean(column_t *column, text_t *text) {
    int is_true = next(text) == 't';
    if (!(is_true ? skip(text, "true", 4) : skip(text, "false", 5))) return 0;
    if (!begin_row(column, 1)) return full(text);
    add_bit(&column->values, column->rows++, is_true);
    return 1;
}

static int read_value(column_t *column, text_t *text);

static int read_list(column_t *column, text_t *text) {
    column_t *element = column->fields;
    if (next(text) != '[') return 0;
    text->at++;
    if (next(text) != ']') {
        do {
            if (!read_value(element, text)) return 0;
        } while (next(text) == ',' && text->at++);
        if (next(text) != ']') return 0;
    }
    text->at++;
    if (element->rows > INT32_MAX) return 0;
    if (!begin_row(column, 1)) return full(text);
    ends(column)[++column->rows] = (int32_t)element->rows;
    return 1;
}

/* Tell whether bytes are the same; names are too short to call memcmp for each. */
static inline int is_same(const unsigned char *some, const char *others, size_t size) {
    uint64_t one, other;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        memcpy(&one, some + at, 8);
        memcpy(&other, others + at, 8);
        if (one != other) return 0;
    }
    for (; at < size; at++)
        if (some[at] != (unsigned char)others[at]) return 0;
    return 1;
}

static inline int is_at(const column_t *field, const text_t *text) {
    size_t size = field->name_size;
    return (size_t)(text->end - text->at) > size && text->at[size] == '"' &&
           is_same(text->at, field->name, size);
}

/* Return the place of the field whose name is next; mostly it is the one that is expected. */
static inline size_t place_of(const column_t *object, const text_t *text, size_t expected) {
    for (size_t place = expected; place < object->count; place++)
        if (is_at(&object->fields[place], text)) return place;
    for (size_t place = 0; place < expected; place++)
        if (is_at(&object->fields[place], text)) return place;
    return object->count;
}

static int read_field(column_t *object, text_t *text, uint64_t number, size_t *expected) {
    if (next(text) != '"') return 0;
    text->at++;
    size_t place = place_of(object, text, *expected);
    if (place == object->count) return 0;
    column_t *field = &object->fields[place];
    if (field->seen == number) return 0;
    field->seen = number;
    *expected = place + 1;
    text->at += field->name_size + 1;
    if (next(text) != ':') return 0;
    text->at++;
    return read_value(field, text);
}

static int read_object(column_t *column, text_t *text) {
    uint64_t number = ++text->objects;
    size_t expected = 0, found = 0;
    if (next(text) != '{') return 0;
    text->at++;
    if (next(text) != '}') {
        do {
            if (!read_field(column, text, number, &expected)) return 0;
            found++;
        } while (next(text) == ',' && text->at++);
        if (next(text) != '}') return 0;
    }
    text->at++;
    for (size_t each = 0; found < column->count && each < column->count; each++) {
        if (column->fields[each].seen == number) continue;
        if (!add_null(&column->fields[each])) return full(text);
        found++;
    }
    if (!begin_row(column, 1)) return full(text);
    column->rows++;
    return 1;
}

static int read_value(column_t *column, text_t *text) {
    if (next(text) == 'n') {
        if (column->is_whole || !skip(text, "null", 4)) return 0;
        return add_null(column) ? 1 : full(text);
    }
    switch (column->kind) {
        case BOOLEAN:
            return read_boolean(column, text);
        case SIGNED:
        case UNSIGNED:
            return read_integer(column, text);
        case DOUBLE:
            return read_double(column, text);
        case TEXT:
            return read_text(column, text);
        case LIST:
            return read_list(column, text);
        case OBJECT:
            return read_object(column, text);
        default:
            return 0;
    }
}

/* Read messages; tell which are plain. Returns 0 where there is no memory. */
static int read_messages(column_t *column, const char *bytes, const int32_t *bounds,
                         const int64_t *numbers, size_t count, char *is_plain) {
    text_t text = {0};
    for (size_t each = 0; each < count; each++) {
        size_t rows = column->rows;
        text.at = (const unsigned char *)bytes + bounds[numbers[each]];
        text.end = (const unsigned char *)bytes + bounds[numbers[each] + 1];
        is_plain[each] = read_value(column, &text) && next(&text) == 0 && text.at == text.end;
        if (text.is_full) return 0;
        if (!is_plain[each]) truncate_to(column, rows);
    }
    return 1;
}

/* ---- to Python and back ---- */

/* Make a column of (kind, width, name, fields), which must outlive it. */
static int make_column(column_t *column, PyObject *shape) {
    char kind;
    Py_ssize_t width, size;
    const char *name;
    PyObject *fields;
    *column = (column_t){0};
    if (!PyArg_ParseTuple(shape, "cny#O!", &kind, &width, &name, &size, &PyTuple_Type, &fields))
        return 0;
    column->kind = (kind_t)kind;
    column->width = (size_t)width;
    column->name = name;
    column->name_size = (size_t)size;
    size_t count = (size_t)PyTuple_Size(fields);
    column->fields = calloc(count + 1, sizeof *column->fields);
    if (column->fields == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    int is_made = 1;
    while (is_made && column->count < count) {
        PyObject *field = PyTuple_GetItem(fields, (Py_ssize_t)column->count);
        is_made = make_column(&column->fields[column->count++], field);
    }
    return is_made;
}

/* Give a column away as (rows, nulls, which rows are none, values, bytes, fields). */
static PyObject *given_column(column_t *column) {
    if (column->room == 0 && !make_room(column, 64)) return PyErr_NoMemory();
    size_t has_ends = column->kind == TEXT || column->kind == LIST, nulls = nulls_of(column);
    column->bits.size = (column->rows + 7) / 8;
    column->values.size = column->kind == BOOLEAN ? column->bits.size
                                                  : (column->rows + has_ends) * column->width;
    if (column->kind == TEXT && !reserve(&column->bytes, 0)) return PyErr_NoMemory();
    PyObject *fields = PyTuple_New((Py_ssize_t)column->count);
    for (size_t each = 0; fields != NULL && each < column->count; each++) {
        PyObject *field = given_column(&column->fields[each]);
        if (field == NULL || PyTuple_SetItem(fields, (Py_ssize_t)each, field) < 0)
            Py_CLEAR(fields);
    }
    if (fields == NULL) return NULL;
    return Py_BuildValue("(nnNNNN)", (Py_ssize_t)column->rows, (Py_ssize_t)nulls,
                         given(&column->bits), given(&column->values), given(&column->bytes),
                         fields);
}

static PyObject *read_plain(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *shape, *found = NULL;
    Py_ssize_t bytes, bounds, numbers, count;
    column_t column;
    if (!PyArg_ParseTuple(args, "O!nnnn", &PyTuple_Type, &shape, &bytes, &bounds, &numbers, &count))
        return NULL;
    buffer_t is_plain = {0};
    if (!reserve(&is_plain, (size_t)count)) return PyErr_NoMemory();
    is_plain.size = (size_t)count;
    if (make_column(&column, shape)) {
        column.is_whole = 1;
        if (column.kind == LIST) column.fields->is_whole = 1;
        int has_room;
        Py_BEGIN_ALLOW_THREADS;
        has_room = read_messages(&column, (const char *)bytes, (const int32_t *)bounds,
                                 (const int64_t *)numbers, (size_t)count, is_plain.bytes);
        Py_END_ALLOW_THREADS;
        found = has_room ? Py_BuildValue("(NN)", given_column(&column), given(&is_plain))
                         : PyErr_NoMemory();
    }
    release_column(&column);
    release(&is_plain);
    return found;
}

static PyObject *know_powers(PyObject *module, PyObject *args) {
    (void)module;
    const char *bytes;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y#", &bytes, &size)) return NULL;
    if ((size_t)size != sizeof POWERS_OF_FIVE) {
        PyErr_SetString(PyExc_ValueError, "these are not all powers of five");
        return NULL;
    }
    memcpy(POWERS_OF_FIVE, bytes, sizeof POWERS_OF_FIVE);
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"read_plain", read_plain, METH_VARARGS, NULL},
    {"know_powers", know_powers, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "plain_json", NULL, -1, METHODS, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_plain_json(void) { return PyModule_Create(&MODULE); }
