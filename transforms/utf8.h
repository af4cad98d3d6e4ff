/* UTF-8 as Python decodes it: no surrogates, nothing overlong, nothing beyond U+10FFFF. */
#ifndef BATCH_COLLECTION_UTF8_H
#define BATCH_COLLECTION_UTF8_H

#include <stddef.h>

/* Return how many bytes the first character takes; 0: there is none within so many bytes, which may
 * be more than there are where a NUL ends them. */
static inline int character_size(const unsigned char *at, ptrdiff_t most) {
    unsigned char lead = at[0];
    if (lead < 0x80) return most > 0;
    int size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || most < size) return 0;
    if ((lead == 0xE0 && at[1] < 0xA0) || (lead == 0xED && at[1] > 0x9F) ||
        (lead == 0xF0 && at[1] < 0x90) || (lead == 0xF4 && at[1] > 0x8F))
        return 0;
    for (int place = 1; place < size; place++)
        if ((at[place] & 0xC0) != 0x80) return 0;
    return size;
}

#endif
