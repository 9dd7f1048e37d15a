/* Decoder of .ptz containers, version 1. docs/formats/ptz.md describes the format; ptz.h how to use this. */
#include "ptz.h"
#include "ptz_prior.h"
#include "ptz_schema.h"
#include <string.h>

#if PTZ_MAX_COLUMNS < 256
#error "PTZ_MAX_COLUMNS must be at least 256"
#endif

enum { GAP, RANK, END, ALSO, TABLE, PRESENT, LAYOUT, OTHER, SAME_FLOAT, POWER_OF_TWO, DERIVED, ZEROS }; /* flags */
enum { K_GAP = 1, K_PAD, K_SLOTS, K_SIZE, K_OFFSET, K_ELEMENT, K_BETWEEN, K_SCALE = 16, K_ZERO = 24,
       K_LENGTH = 32, K_CODE, K_BITS, K_FREQUENCY, K_LANES, K_MODE = 40, K_ZSTD, K_UP, K_LEVELS, K_LEVEL, K_SHIFT,
       K_VALUE, K_FLOAT = 50, K_FIELDS = 64 };
enum { STORED, ZSTD, PLANES, INTEGERS, FLOATS, MATRIX, LEVELS, TEXT, RANKS };
enum { T_FLOAT32 = 0, T_FLOAT16 = 1, T_UINT8 = 3, T_INT8 = 9, T_INT4 = 17 };
enum { CONV_2D = 3, DEPTHWISE_CONV_2D = 4, FULLY_CONNECTED = 9 };

static int fail(ptz *z, ptz_status status)
{
    if (z->status == PTZ_OK) z->status = status;
    return 0;
}

/* ---- Probabilities ---- */

static const uint32_t knots[49] = {
    0, 1, 1, 2, 3, 5, 8, 13, 22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743,
    32768, 40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500,
    65514, 65523, 65528, 65531, 65533, 65534, 65535, 65535, 65536};

static uint32_t squash(int64_t x)
{
    uint32_t i, v;
    x = x < -3072 ? 0 : x > 3072 ? 6144 : x + 3072;
    i = (uint32_t)x >> 7;
    v = x & 127 ? knots[i] + ((knots[i + 1] - knots[i]) * ((uint32_t)x & 127) >> 7) : knots[i];
    return v < 16 ? 16 : v > 65520 ? 65520 : v;
}

static void make_stretch(ptz *z)
{
    int x = -3072, p;
    for (p = 0; p < 4096; p++) {
        while (x < 3072 && squash(x) < 16u * (uint32_t)p + 8) x++;
        z->stretch[p] = (int16_t)x;
    }
}

static int split(ptz *z, uint32_t q)
{
    uint32_t middle = z->low + (uint32_t)(((uint64_t)(z->high - z->low) * q) >> 16);
    int value = z->code <= middle;
    if (z->decisions == 0) return fail(z, PTZ_CORRUPT);
    z->decisions--;
    if (value) z->high = middle;
    else z->low = middle + 1;
    while ((z->low ^ z->high) >> 24 == 0) {
        z->code = z->code << 8 | (z->in_position < z->in_size ? z->in[z->in_position] : 0);
        z->in_position++;
        z->low <<= 8;
        z->high = z->high << 8 | 255;
    }
    return value;
}

static int64_t floor_shift(int64_t x, int n) { return x >= 0 ? x >> n : ~(~x >> n); }

static int bit(ptz *z, uint16_t *p, uint8_t *uses, const uint32_t *slots, int n, int64_t *weights,
               const int32_t *direct, int directs, int learning)
{
    int32_t opinions[16];
    uint32_t before = 32768, q;
    int64_t sum = 0, error;
    int i, value;
    if (z->status) return 0;
    for (i = 0; i < directs; i++) opinions[i] = direct[i];
    if (directs) before = squash(direct[0]);
    for (i = 0; i < n; i++) {
        uint32_t s = slots[i], k = uses[s];
        if (k) {
            before = p[s];
            opinions[directs + i] = (int32_t)floor_shift(z->stretch[before >> 4] * (int32_t)(2560 * k / (10 * k + 4)), 8);
        } else {
            p[s] = (uint16_t)before;
            opinions[directs + i] = 0;
        }
    }
    for (i = 0; i < n + directs; i++) sum += opinions[i] * weights[i];
    q = squash(floor_shift(sum, 16));
    value = split(z, q);
    for (i = 0; i < n; i++) {
        uint32_t s = slots[i], rate = 655360 / (10 * (uint32_t)uses[s] + 13);
        int64_t target = value ? 65535 - (int64_t)p[s] : -(int64_t)p[s];
        p[s] = (uint16_t)(p[s] + floor_shift(target * rate, 16));
        if (uses[s] < 250) uses[s]++;
    }
    error = (value ? 65536 - (int64_t)q : -(int64_t)q) * learning;
    for (i = 0; i < n + directs; i++) weights[i] += floor_shift(opinions[i] * error + 65536, 17);
    return value;
}

static uint32_t even(ptz *z, int count)
{
    uint32_t v = 0;
    while (count-- > 0 && !z->status) v = v << 1 | (uint32_t)split(z, 32768);
    return v;
}

/* ---- Numbers ---- */

static uint32_t slot(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    uint32_t x = a * 0x9E3779B1u + b * 0x85EBCA6Bu + c * 0xC2B2AE35u + d * 0x27D4EB2Fu;
    x = (x ^ x >> 15) * 0x2C1B3C6Du;
    return (x ^ x >> 13) & (PTZ_SLOTS - 1);
}

static int known_bit(ptz *z, const uint32_t *slots, int n, int64_t *weights)
{
    return bit(z, z->p, z->uses, slots, n, weights, 0, 0, 16);
}

static int flag(ptz *z, uint32_t key, uint32_t a, uint32_t b)
{
    uint32_t s[3];
    s[0] = slot(9, key, 0, 0), s[1] = slot(1, key, a, 0), s[2] = slot(2, key, a, b);
    return known_bit(z, s, 3, z->flag_weights[key]);
}

static uint64_t number(ptz *z, uint32_t key, uint32_t a, uint32_t b)
{
    uint64_t v = 1;
    int n = 0, i;
    for (;; n++) {
        uint32_t s[4];
        s[0] = slot(3, 0, (uint32_t)n, 0), s[1] = slot(3, key, (uint32_t)n, 0);
        s[2] = slot(4, key, (uint32_t)n, a), s[3] = slot(5, key, (uint32_t)n, b);
        if (!known_bit(z, s, 4, z->length_weights)) break;
        if (n == 63) return (uint64_t)fail(z, PTZ_CORRUPT);
    }
    for (i = n - 1; i >= 0 && !z->status; i--) {
        uint32_t s[3], place = n - i <= 6 ? (uint32_t)v : 64 + (uint32_t)i;
        if (n - i > 12) {
            for (; i >= 0; i--) v = v << 1 | even(z, 1);
            break;
        }
        s[0] = slot(6, key, (uint32_t)n, place), s[1] = slot(7, key, (uint32_t)n, place + (a << 8));
        s[2] = slot(8, key, (uint32_t)n, place + (b << 8));
        v = v << 1 | (uint32_t)known_bit(z, s, 3, z->digit_weights);
    }
    return v - 1;
}

static int64_t whole(ptz *z, uint32_t key, uint32_t a, uint32_t b)
{
    uint64_t v = number(z, key, a, b);
    return v & 1 ? -1 - (int64_t)(v >> 1) : (int64_t)(v >> 1);
}

static ptz_key *key_of(ptz *z, uint32_t key)
{
    uint32_t i;
    for (i = 0; i < z->key_count; i++)
        if (z->keys[i].key == key) return &z->keys[i];
    if (i == PTZ_MAX_KEYS) {
        fail(z, PTZ_TOO_BIG);
        return &z->keys[0];
    }
    memset(&z->keys[i], 0, sizeof z->keys[i]);
    z->keys[i].key = key;
    z->key_count++;
    return &z->keys[i];
}

static int64_t step(ptz *z, uint32_t key, uint32_t a)
{
    ptz_key *k = key_of(z, key);
    k->step = whole(z, key, (uint32_t)k->step & 255, a);
    return k->last = (int64_t)((uint64_t)k->last + (uint64_t)k->step);
}

static uint32_t float_bits(ptz *z, uint32_t key)
{
    ptz_key *k = key_of(z, key);
    uint32_t last = (uint32_t)k->last, fraction = 0;
    int64_t exponent;
    if (flag(z, SAME_FLOAT, key, 0)) return last;
    exponent = whole(z, key + 1, 0, 0);
    if (exponent < -512 || exponent > 512) return (uint32_t)fail(z, PTZ_CORRUPT);
    exponent += last >> 23;
    if (exponent < 0 || exponent >= 512) return (uint32_t)fail(z, PTZ_CORRUPT);
    if (!flag(z, POWER_OF_TWO, key, 0)) fraction = even(z, 23);
    k->last = (int64_t)((uint32_t)exponent << 23 | fraction);
    return (uint32_t)k->last;
}

static int64_t recent(ptz *z, uint32_t key, uint32_t i, uint32_t before)
{
    uint32_t rank, keep;
    int64_t v = 0;
    for (rank = 0; rank < z->recent_count; rank++) {
        uint32_t s[4], candidate = (uint32_t)z->recent[rank];
        s[0] = slot(15, key, rank, 0), s[1] = slot(16, key, rank, i);
        s[2] = slot(17, key, candidate, before), s[3] = slot(18, key, candidate, i);
        if (known_bit(z, s, 4, z->rank_weights)) {
            v = z->recent[rank];
            break;
        }
    }
    keep = rank;
    if (rank == z->recent_count) {
        v = whole(z, key, i, before & 255);
        if (z->recent_count < 15) z->recent_count++;
        keep = z->recent_count - 1;
    }
    memmove(z->recent + 1, z->recent, keep * sizeof *z->recent);
    z->recent[0] = v;
    return v;
}

/* `to` may be NULL. */
static void text(ptz *z, uint32_t key, uint32_t length, uint8_t *to)
{
    uint8_t *h = z->history;
    const uint32_t mask = PTZ_WINDOW - 1;
    ptz_key *k = key_of(z, key);
    uint32_t start = z->written, found = k->begun ? k->start : start, one = 0, two = 0, three = 0, run = 0, i;
    for (i = 0; i < length && !z->status; i++) {
        uint32_t here = z->written, expected = 256, node = 1, byte;
        int known = found < here && here - found <= PTZ_WINDOW;
        if (known) expected = h[found & mask];
        else found = here, run = 0;
        while (node < 256) {
            uint32_t s[5];
            s[0] = slot(10, key, node, 0), s[1] = slot(11, one, node, 0), s[2] = slot(12, two << 8 | one, node, 0);
            s[3] = slot(13, three << 16 | two << 8 | one, node, 0);
            s[4] = slot(14, expected, node, run < 15 ? run : 15);
            node = node << 1 | (uint32_t)known_bit(z, s, 5, z->text_weights);
        }
        byte = node & 255;
        h[here & mask] = (uint8_t)byte;
        z->written++;
        if (to) to[i] = (uint8_t)byte;
        three = two, two = one, one = byte;
        if (byte == expected) {
            found++, run++;
        } else {
            uint32_t lowest = here + 1 > PTZ_WINDOW ? here + 1 - PTZ_WINDOW : 0, m;
            run = 0;
            found = here + 1;
            if (here < 3) continue;
            for (m = here; m >= lowest + 4; m--) { /* m: what would follow the match */
                if (h[(m - 1) & mask] == byte && h[(m - 2) & mask] == h[(here - 1) & mask] &&
                    h[(m - 3) & mask] == h[(here - 2) & mask] && h[(m - 4) & mask] == h[(here - 3) & mask]) {
                    found = m;
                    break;
                }
            }
        }
    }
    k->start = start;
    k->begun = 1;
}

/* ---- The flatbuffer around the constants ---- */

/* The word of a slot as one character, with its number; 0 when the table has no such slot. */
static int word_of(uint32_t kind, uint32_t i, uint32_t *n)
{
    const char *s = ptz_fields[kind];
    int c;
    *n = 0;
    while (i && *s)
        if (*s++ == ' ') i--;
    if (i || !*s) return 0;
    c = *s++;
    while (*s >= '0' && *s <= '9') *n = *n * 10 + (uint32_t)(*s++ - '0');
    return c;
}

static uint32_t scalar_size(int word)
{
    return word == 'b' ? 1 : word == 'h' ? 2 : word == 'i' || word == 'f' ? 4 : word == 'l' || word == 'd' ? 8 : 0;
}

static uint32_t field_size(int word) { return scalar_size(word) ? scalar_size(word) : 4; }

/* Where a byte of the file stands in the frame. */
static uint32_t inside(const ptz *z, uint32_t place)
{
    uint32_t i = z->hole_count;
    if (z->filled) return place;
    while (i && z->holes[i - 1].position >= place) i--;
    return i ? place - z->holes[i - 1].before - z->holes[i - 1].size : place;
}

static uint8_t *room(ptz *z, uint32_t place, uint32_t size)
{
    uint32_t from;
    if (z->status) return 0;
    from = inside(z, place);
    if (from > z->capacity || size > z->capacity - from) {
        fail(z, PTZ_TOO_BIG);
        return 0;
    }
    return z->frame + from;
}

static void put(ptz *z, uint32_t place, uint32_t size, uint64_t value)
{
    uint8_t *to = room(z, place, size);
    for (; to && size--; value >>= 8) *to++ = (uint8_t)value;
}

static uint64_t get(ptz *z, uint32_t place, uint32_t size)
{
    uint64_t v = 0;
    const uint8_t *from;
    if (place > z->size || size > z->size - place) return (uint64_t)fail(z, PTZ_CORRUPT);
    from = room(z, place, size);
    while (from && size--) v = v << 8 | from[size];
    return v;
}

static void put_checked(ptz *z, uint32_t place, uint32_t size, int64_t v, int with_sign)
{
    if (size < 8) {
        int64_t half = (int64_t)1 << (8 * size - 1);
        if (with_sign ? v < -half || v >= half : v < 0 || v >= 2 * half) fail(z, PTZ_CORRUPT);
    }
    put(z, place, size, (uint64_t)v);
}

static void text_here(ptz *z, uint32_t key, uint64_t length)
{
    uint8_t *to;
    if (length > 65536 || length > z->walk_size - z->at) {
        fail(z, PTZ_CORRUPT);
        return;
    }
    to = room(z, z->at, (uint32_t)length);
    text(z, key, (uint32_t)length, to);
    z->at += (uint32_t)length;
}

static ptz_reference *push(ptz *z, int kind, uint32_t table, uint32_t key, uint32_t aux, uint32_t place,
                           uint32_t count, uint32_t index)
{
    ptz_reference *r = &z->open[z->open_count];
    uint32_t i;
    if (z->open_count == PTZ_OPEN) {
        fail(z, PTZ_CORRUPT);
        return 0;
    }
    if (count > PTZ_MAX_PLACES - z->place_count) {
        fail(z, PTZ_TOO_BIG);
        return 0;
    }
    memset(r, 0, sizeof *r);
    r->kind = (uint8_t)kind, r->table = (uint8_t)table, r->key = key, r->aux = (uint8_t)aux, r->index = index;
    r->places = z->place_count, r->count = count, r->elements = -1;
    for (i = 0; i < count; i++) z->places[z->place_count + i] = place + 4 * i, z->numbers[z->place_count + i] = i;
    z->place_count += count;
    z->open_count++;
    return r;
}

/* Choose an open reference and one of its places; takes it. Returns a copy with its one place and number. */
static ptz_reference take(ptz *z, uint32_t context, uint32_t *place, uint32_t *index)
{
    uint32_t rank = z->open_count - 1, at, last, i;
    ptz_reference *r, copy;
    while (rank && !flag(z, RANK, z->open[rank].key, context)) rank--;
    r = &z->open[rank];
    at = last = r->count - 1;
    if (last && !flag(z, END, r->key, 0)) {
        at = 0;
        if (!flag(z, END, r->key, 1)) {
            int64_t there = whole(z, K_ELEMENT, r->key, 0);
            if (there < -0x7FFFFFFF || there > 0x7FFFFFFF || r->near + there < 0 || r->near + there > last) {
                fail(z, PTZ_CORRUPT);
                there = -r->near;
            }
            at = (uint32_t)(r->near + there);
            r->near = (int32_t)at;
        }
    }
    *place = z->places[r->places + at];
    *index = r->index + z->numbers[r->places + at];
    memmove(z->places + r->places + at, z->places + r->places + at + 1, (last - at) * sizeof *z->places);
    memmove(z->numbers + r->places + at, z->numbers + r->places + at + 1, (last - at) * sizeof *z->numbers);
    r->count--;
    copy = *r;
    if (!r->count) {
        memmove(r, r + 1, (z->open_count - rank - 1) * sizeof *r);
        z->open_count--;
        for (z->place_count = 0, i = 0; i < z->open_count; i++)
            if (z->open[i].places + z->open[i].count > z->place_count)
                z->place_count = z->open[i].places + z->open[i].count;
    }
    return copy;
}

static uint32_t begin(ptz *z, uint64_t size, uint32_t align, uint32_t offset)
{
    uint32_t here = z->at, expected = (0 - (here + offset)) & (align - 1);
    if (flag(z, GAP, 0, z->last)) {
        uint64_t length = number(z, K_GAP, 0, 0);
        text_here(z, K_GAP, length < 65536 ? length + 1 : 65537);
    } else {
        int64_t more = whole(z, K_PAD, align * 4 + (((here + offset) & 15) >> 2), z->last);
        if (more < -16 || more > (int64_t)1 << 30 || (int64_t)expected + more * 4 < 0) fail(z, PTZ_CORRUPT);
        else if (expected + (uint64_t)more * 4 > z->walk_size - here) fail(z, PTZ_CORRUPT);
        else z->at = here + expected + (uint32_t)(more * 4);
    }
    if (size > z->walk_size - z->at) fail(z, PTZ_CORRUPT);
    return z->at;
}

static uint32_t mask_of(const ptz_layout *l)
{
    uint32_t i, mask = 0;
    for (i = 0; i < l->slots && i < 16; i++) mask |= (uint32_t)(l->offsets[i] > 0) << i;
    return mask;
}

static void arrange(ptz_layout *l, uint32_t kind, const uint8_t *present, uint32_t count, int rule, uint32_t end)
{
    uint32_t bottom = (1u << 20) + end, position = bottom, n, size, i;
    uint32_t places[PTZ_MAX_FIELDS];
    for (size = 8; size; size >>= 1) {
        for (i = 0; i < count; i++) {
            uint32_t s = rule ? count - 1 - i : i, own;
            if (!present[s]) continue;
            own = field_size(word_of(kind, s, &n));
            if (rule && own != size) continue;
            position = (position - own) / own * own;
            places[s] = position;
        }
        if (!rule) break;
    }
    position = (position - 4) / 4 * 4;
    for (i = 0; i < count; i++) l->offsets[i] = (uint16_t)(present[i] ? places[i] - position : 0);
    l->size = (uint16_t)(bottom - position);
}

/* Describe a layout that the kind did not have. */
static void describe(ptz *z, uint32_t kind, ptz_layout *l)
{
    uint8_t present[PTZ_MAX_FIELDS] = {0};
    uint32_t fields = 0, before = 0, i, j, n, slots = 0;
    memset(l, 0, sizeof *l);
    while (fields < PTZ_MAX_FIELDS && word_of(kind, fields, &n)) {
        before = present[fields] = (uint8_t)flag(z, PRESENT, kind * 32 + fields, before);
        fields++;
        if (before) slots = fields;
    }
    if (!flag(z, OTHER, 1, 0)) {
        uint64_t more = number(z, K_SLOTS, 0, 0);
        if (more > fields || more < slots) {
            fail(z, PTZ_CORRUPT);
            return;
        }
        slots = (uint32_t)more;
    }
    l->slots = (uint8_t)slots;
    if (flag(z, LAYOUT, 0, 0)) {
        int rule = flag(z, LAYOUT, 1, 0);
        uint32_t node = 1;
        for (i = 0; i < 3; i++) node = node << 1 | (uint32_t)flag(z, LAYOUT, 8 + node, 0);
        arrange(l, kind, present, slots, rule, node & 7);
    } else {
        uint64_t size = number(z, K_SIZE, 0, 0);
        if (size > 65531) fail(z, PTZ_CORRUPT);
        l->size = (uint16_t)(size + 4);
        for (i = 0; i < slots; i++) {
            uint64_t offset = present[i] ? number(z, K_OFFSET, 0, 0) : 0;
            if (offset > 65531) fail(z, PTZ_CORRUPT);
            l->offsets[i] = (uint16_t)(present[i] ? offset + 4 : 0);
        }
    }
    for (i = 0; i < slots; i++) { /* fields lie side by side within the table */
        int word = word_of(kind, i, &n);
        uint32_t from = l->offsets[i], to = from + field_size(word);
        if (!from) continue;
        if (from < 4 || to > l->size || word == '-') fail(z, PTZ_CORRUPT);
        for (j = 0; j < i; j++) {
            uint32_t other = l->offsets[j];
            if (other && other < to && from < other + field_size(word_of(kind, j, &n))) fail(z, PTZ_CORRUPT);
        }
    }
}

static void use(ptz *z, uint32_t at, uint32_t kind, uint32_t layout)
{
    memmove(z->used + 1, z->used, at);
    memmove(z->used_kind + 1, z->used_kind, at);
    z->used[0] = (uint8_t)layout, z->used_kind[0] = (uint8_t)kind;
}

static ptz_layout *choose_layout(ptz *z, uint32_t kind, uint32_t aux)
{
    uint32_t last = z->masks[kind], context = last * 257 + aux, i, j;
    ptz_layout made;
    for (i = 0; i < z->used_count; i++) {
        uint32_t mask;
        if (z->used_kind[i] != kind) continue;
        mask = mask_of(&z->layouts[z->used[i]]);
        if (flag(z, TABLE, kind << 16 | mask, context)) {
            use(z, i, kind, z->used[i]);
            z->masks[kind] = last << 16 | mask;
            return &z->layouts[z->used[0]];
        }
    }
    describe(z, kind, &made);
    z->masks[kind] = last << 16 | mask_of(&made);
    if (z->used_count == 2 * PTZ_MAX_LAYOUTS) fail(z, PTZ_TOO_BIG);
    if (z->status) return &z->layouts[0];
    for (i = 0; i < z->layout_count; i++) {
        ptz_layout *l = &z->layouts[i];
        int has = 0;
        if (l->slots != made.slots || l->size != made.size || memcmp(l->offsets, made.offsets, 2u * made.slots)) continue;
        for (j = 0; j < z->used_count; j++) has |= z->used_kind[j] == kind && z->used[j] == i;
        if (!has && flag(z, TABLE, 1u << 30, 0)) break;
    }
    if (i == z->layout_count) {
        if (i == PTZ_MAX_LAYOUTS) {
            fail(z, PTZ_TOO_BIG);
            return &z->layouts[0];
        }
        z->layouts[i] = made;
        z->layout_count++;
    }
    use(z, z->used_count++, kind, i);
    return &z->layouts[i];
}

static void place_layout(ptz *z, ptz_layout *l, uint32_t position)
{
    uint32_t i, waiting = l->position;
    put(z, position, 2, 4 + 2u * l->slots);
    put(z, position + 2, 2, l->size);
    for (i = 0; i < l->slots; i++) put(z, position + 4 + 2 * i, 2, l->offsets[i]);
    while (waiting && !z->status) { /* tables that were decoded before, chained through their slot */
        uint32_t next = (uint32_t)get(z, waiting, 4);
        put(z, waiting, 4, waiting - position);
        waiting = next;
    }
    l->placed = 1, l->position = position;
}

static int64_t constant_elements(const ptz *z, int64_t type, int64_t buffer)
{
    static const uint8_t bytes[17] = {4, 2, 4, 1, 8, 0, 1, 2, 0, 1, 8, 0, 8, 0, 0, 4, 2};
    uint32_t i;
    for (i = 0; i < z->hole_count; i++)
        if (z->holes[i].buffer == buffer) return type <= 16 && bytes[type] ? (int64_t)(z->holes[i].size / bytes[type]) : -1;
    return -1;
}

static uint32_t table(ptz *z, uint32_t kind, const ptz_reference *from, uint32_t index)
{
    ptz_layout *l = choose_layout(z, kind, from->aux);
    uint32_t here = 0, align = 4, offset, end = 4, start, i, j, n, aux = from->aux, seen = 0;
    int64_t scalars[PTZ_MAX_FIELDS] = {0};
    uint8_t covered, bytes[256] = {0};
    int rest = 0;
    if (!l->placed)
        here = (uint32_t)flag(z, TABLE, 1u << 30 | 1, kind * 4 + (from->count < 3 ? from->count : 3)) * (4 + 2u * l->slots);
    offset = here;
    for (i = 0; i < l->slots; i++) {
        uint32_t size = field_size(word_of(kind, i, &n));
        if (!l->offsets[i]) continue;
        if (scalar_size(word_of(kind, i, &n)) == 8 && align == 4) align = 8, offset = here + l->offsets[i];
        if (l->offsets[i] + size > end) end = l->offsets[i] + size;
    }
    start = begin(z, here + end, align, offset) + here;
    if (here) place_layout(z, l, start - here);
    if (l->placed) {
        put(z, start, 4, start - l->position);
    } else {
        put(z, start, 4, l->position);
        l->position = start;
    }
    z->at = start + end;
    for (n = 0; n < 2 && !z->status; n++) { /* bytes between the fields: first whether there are any, then what */
        uint32_t count = 0;
        for (j = 4; j < end; j++) {
            uint32_t m;
            for (covered = 0, i = 0; i < l->slots; i++)
                covered |= l->offsets[i] && l->offsets[i] <= j && j < l->offsets[i] + field_size(word_of(kind, i, &m));
            if (covered) continue;
            if (n == 1) put(z, start + j, 1, bytes[count]);
            if (++count == sizeof bytes) fail(z, PTZ_TOO_BIG);
        }
        if (n == 0) {
            if (!count || flag(z, OTHER, 3, kind)) break;
            text(z, K_BETWEEN, count, bytes);
        }
    }
    for (i = 0; i < l->slots && !z->status; i++) {
        uint32_t key = kind * 32 + i, k = K_FIELDS + key * 16;
        int word = word_of(kind, i, &n);
        if (!l->offsets[i] || !scalar_size(word)) {
            rest |= l->offsets[i] > 0;
            continue;
        }
        scalars[i] = word == 'f' ? float_bits(z, k) : word == 'b' ? (int64_t)number(z, k, aux, z->last) : step(z, k, aux);
        put_checked(z, start + l->offsets[i], scalar_size(word), scalars[i], word != 'b' && word != 'f');
        if (!seen) aux = (uint32_t)scalars[i] & 255, seen = 1;
    }
    for (i = 0; rest && i < l->slots && !z->status; i++) {
        int word = word_of(kind, i, &n);
        ptz_reference *r;
        if (!l->offsets[i] || scalar_size(word)) continue;
        if (word == 'u') {
            int64_t member = i ? scalars[i - 1] : 0;
            if (member < 1 || member >= ptz_union_sizes[n] || ptz_unions[n][member] == 255) return (uint32_t)fail(z, PTZ_CORRUPT);
            n = ptz_unions[n][member], word = 't';
        }
        r = push(z, word, n, kind * 32 + i, aux, start + l->offsets[i], 1, index);
        if (r && kind == PTZ_TENSOR && i == 0) r->elements = constant_elements(z, scalars[1], scalars[2]);
    }
    return start;
}

static uint32_t vector(ptz *z, const ptz_reference *from, uint32_t index)
{
    int w = from->kind, constant = from->key == PTZ_BUFFER * 32, numbers = from->key >= PTZ_QUANTIZATIONPARAMETERS * 32 + 2 &&
                                                                          from->key <= PTZ_QUANTIZATIONPARAMETERS * 32 + 3;
    uint32_t size = w == 's' || w == 'B' ? 1 : w == 'H' ? 2 : w == 'L' ? 8 : 4, key = K_FIELDS + from->key * 16;
    uint32_t start, place, i;
    ptz_key *k = key_of(z, key + 14);
    uint64_t length = number(z, key + 14, from->aux, (uint32_t)k->last);
    int64_t left = from->elements, before = 0;
    k->last = (int64_t)length;
    if (length > z->walk_size) return (uint32_t)fail(z, PTZ_CORRUPT);
    start = begin(z, 4 + length * size + (w == 's'), constant ? 16 : size == 8 ? 8 : 4, 4);
    put(z, start, 4, length);
    place = z->at = start + 4;
    if (z->status) return 0;
    if (w == 's' || (w == 'B' && !constant)) {
        text_here(z, key + 15, length);
        z->at += w == 's';
        return start;
    }
    z->at += (uint32_t)length * size;
    if (constant) {
        if (!length) return start;
        if (z->hole_count == PTZ_MAX_CONSTANTS) return (uint32_t)fail(z, PTZ_TOO_BIG);
        z->holes[z->hole_count].position = place, z->holes[z->hole_count].size = (uint32_t)length;
        z->holes[z->hole_count].buffer = index, z->holes[z->hole_count].done = 0;
        z->holes[z->hole_count].before = z->cut;
        z->hole_count++;
        z->cut += (uint32_t)length;
    } else if (w == 'v' || w == 'S') {
        if (length) push(z, w == 'S' ? 's' : 't', from->table, from->key, from->aux, place, (uint32_t)length, 0);
    } else if (numbers) {
        put(z, z->at - !!length, !!length, 0); /* scales and zero points come later; the frame must have room */
    } else {
        for (i = 0; i < length && !z->status; i++, place += size) {
            uint32_t at = i < 4 ? i : 4;
            int64_t v;
            if (w == 'F') v = float_bits(z, key);
            else if (left > 0 && i == length - 1 && flag(z, OTHER, 2, 0)) v = left;
            else if (from->key == PTZ_TENSOR * 32) v = recent(z, key, at, (uint32_t)before);
            else v = step(z, key + at, from->aux);
            before = v;
            left = left > 0 && v > 0 && left % v == 0 ? left / v : -1;
            put_checked(z, place, size, v, w != 'F');
        }
    }
    return start;
}

static void walk(ptz *z, uint32_t size)
{
    z->walk_size = size, z->at = 8, z->last = 0, z->cut = 0;
    z->open_count = z->place_count = z->layout_count = z->used_count = z->hole_count = 0;
    memset(z->masks, 0, sizeof z->masks);
    if (size < 12) fail(z, PTZ_CORRUPT);
    put(z, 4, 4, 0x334C4654);
    push(z, 't', PTZ_MODEL, 0, 0, 0, 1, 0);
    while (z->open_count && !z->status) {
        static const char kinds[] = "tsvSBHILF";
        uint32_t place, index, chain, start, ignored;
        ptz_reference r = take(z, z->last, &place, &index);
        put(z, chain = place, 4, 0); /* references to the same object are chained through their places */
        while (z->open_count && !z->status && flag(z, ALSO, (uint32_t)(strchr(kinds, r.kind) - kinds), 0)) {
            ptz_reference other = take(z, 0, &place, &ignored);
            if (other.kind != r.kind || other.table != r.table) fail(z, PTZ_CORRUPT);
            put(z, place, 4, chain);
            chain = place;
        }
        if (z->status) return;
        start = r.kind == 't' ? table(z, r.table, &r, index) : vector(z, &r, index);
        z->last = r.key;
        while (!z->status) {
            uint32_t next = (uint32_t)get(z, chain, 4);
            put(z, chain, 4, start - chain);
            if (!next) break;
            chain = next;
        }
    }
    for (size = 0; size < z->layout_count; size++)
        if (!z->layouts[size].placed) fail(z, PTZ_CORRUPT);
    if (z->at < z->walk_size && !flag(z, OTHER, 0, 0)) text_here(z, K_GAP, z->walk_size - z->at);
}

/* ---- What the flatbuffer says of its tensors ---- */

static uint32_t field(ptz *z, uint32_t at, uint32_t i)
{
    uint32_t vtable = at - (uint32_t)get(z, at, 4);
    uint32_t offset = 4 + 2 * i < get(z, vtable, 2) ? (uint32_t)get(z, vtable + 4 + 2 * i, 2) : 0;
    return offset ? at + offset : 0;
}

static uint32_t scalar(ptz *z, uint32_t at, uint32_t i, uint32_t size)
{
    uint32_t place = field(z, at, i);
    return place ? (uint32_t)get(z, place, size) : 0;
}

static uint32_t follow(ptz *z, uint32_t at, uint32_t i)
{
    uint32_t place = field(z, at, i);
    return place ? place + (uint32_t)get(z, place, 4) : 0;
}

/* Place of the first element; 0 when the vector is absent. */
static uint32_t elements(ptz *z, uint32_t at, uint32_t i, uint32_t *count)
{
    uint32_t place = follow(z, at, i);
    *count = place ? (uint32_t)get(z, place, 4) : 0;
    return place ? place + 4 : 0;
}

static uint32_t element(ptz *z, uint32_t first, uint32_t i) { return first + 4 * i + (uint32_t)get(z, first + 4 * i, 4); }

static void read_tensors(ptz *z)
{
    uint32_t root = (uint32_t)get(z, 0, 4), count, graphs, i, g, n, list, first;
    list = elements(z, root, 1, &count);
    if (count > PTZ_MAX_OPERATORS) fail(z, PTZ_TOO_BIG);
    z->operator_code_count = count;
    for (i = 0; i < count && !z->status; i++) {
        uint32_t at = element(z, list, i), old = scalar(z, at, 0, 1), code = scalar(z, at, 3, 4);
        z->operator_codes[i] = (int32_t)(old > code ? old : code);
    }
    first = elements(z, root, 2, &graphs);
    z->tensor_count = 0;
    for (g = 0; g < graphs && !z->status; g++) {
        list = elements(z, element(z, first, g), 0, &n);
        if (n > PTZ_MAX_TENSORS - z->tensor_count) fail(z, PTZ_TOO_BIG);
        for (i = 0; i < n && !z->status; i++) {
            ptz_tensor *t = &z->tensors[z->tensor_count++];
            uint32_t at = element(z, list, i), q = follow(z, at, 4);
            memset(t, 0, sizeof *t);
            t->shape = elements(z, at, 0, &t->dimensions);
            t->type = (int)scalar(z, at, 1, 1), t->buffer = scalar(z, at, 2, 4);
            if (q) t->scale = elements(z, q, 2, &t->scales), t->zero_point = elements(z, q, 3, &t->zero_points);
        }
    }
}

/* A subgraph: where its tensors begin in z->tensors, and its operators. */
typedef struct { uint32_t base, count, operators, operator_count; } graph;

static int read_graph(ptz *z, uint32_t g, graph *to)
{
    uint32_t root = (uint32_t)get(z, 0, 4), graphs, first = elements(z, root, 2, &graphs), i;
    to->base = 0, to->count = 0;
    if (g >= graphs) return 0;
    for (i = 0; i <= g; i++) to->base += to->count, elements(z, element(z, first, i), 0, &to->count);
    to->operators = elements(z, element(z, first, g), 3, &to->operator_count);
    return !z->status;
}

/* An operator: its code, and where the numbers of its tensors stand. */
typedef struct { uint32_t code, inputs, input_count, outputs, output_count; } node;

static node read_node(ptz *z, const graph *g, uint32_t i)
{
    node n;
    uint32_t at = element(z, g->operators, i), index = scalar(z, at, 0, 4);
    n.code = index < z->operator_code_count ? (uint32_t)z->operator_codes[index] : 0;
    n.inputs = elements(z, at, 1, &n.input_count);
    n.outputs = elements(z, at, 2, &n.output_count);
    return n;
}

/* A tensor by its place in the list of an operator; NULL when there is none. */
static ptz_tensor *tensor_at(ptz *z, const graph *g, uint32_t list, uint32_t i)
{
    uint32_t index = (uint32_t)get(z, list + 4 * i, 4);
    return z->status || index >= g->count ? 0 : &z->tensors[g->base + index];
}

/* ---- Scales and zero points ---- */

static int is_done(const ptz *z, uint32_t place, int scale)
{
    uint32_t i;
    for (i = 0; i < z->tensor_count; i++)
        if (scale ? z->tensors[i].scale_done && z->tensors[i].scale == place
                  : z->tensors[i].zero_point_done && z->tensors[i].zero_point == place)
            return 1;
    return 0;
}

static float as_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static uint32_t product(uint32_t a, uint32_t b)
{
    volatile float f = as_float(a) * as_float(b);
    float g = f;
    uint32_t bits;
    memcpy(&bits, &g, 4);
    return bits;
}

static void scale_of(ptz *z, const graph *g, ptz_tensor *t, const ptz_tensor *first, const node *n, uint32_t code, uint32_t role)
{
    const ptz_tensor *kernel = 0;
    uint32_t i;
    int expected = 0;
    if (first && first->scales && is_done(z, first->scale, 1)) {
        if (role == 2 && (code == CONV_2D || code == DEPTHWISE_CONV_2D || code == FULLY_CONNECTED)) {
            kernel = tensor_at(z, g, n->inputs, 1);
            expected = kernel && kernel != t && kernel->scales == t->scales && is_done(z, kernel->scale, 1);
            for (i = 0; expected && i < t->scales; i++)
                expected = (product((uint32_t)get(z, first->scale, 4), (uint32_t)get(z, kernel->scale + 4 * i, 4)) >> 23 & 255) != 255;
        } else if (role == 4) {
            expected = first->scales == t->scales;
        }
    }
    if (expected && flag(z, DERIVED, code * 8 + role, 0)) {
        for (i = 0; i < t->scales && !z->status; i++)
            put(z, t->scale + 4 * i, 4, kernel ? product((uint32_t)get(z, first->scale, 4), (uint32_t)get(z, kernel->scale + 4 * i, 4))
                                               : get(z, first->scale + 4 * i, 4));
    } else {
        for (i = 0; i < t->scales && !z->status; i++)
            put(z, t->scale + 4 * i, 4, float_bits(z, K_SCALE + (role == 1 || role == 2 ? 2 : 0)));
    }
}

static void quantization(ptz *z, const graph *g, ptz_tensor *t, const node *n, uint32_t role)
{
    const ptz_tensor *first = n && n->input_count ? tensor_at(z, g, n->inputs, 0) : 0;
    uint32_t code = n ? n->code : 0, i;
    int has = t->scales && !is_done(z, t->scale, 1);
    if (first == t) first = 0;
    if (has) {
        t->scale_done = 1;
        scale_of(z, g, t, first, n, code, role);
    }
    if (t->zero_points && !is_done(z, t->zero_point, 0)) {
        uint64_t expected = 0;
        t->zero_point_done = 1;
        if (role == 4 && first && first->zero_points && is_done(z, first->zero_point, 0)) expected = get(z, first->zero_point, 8);
        has = flag(z, ZEROS, code * 8 + role, 0);
        for (i = 0; i < t->zero_points && !z->status; i++)
            put(z, t->zero_point + 8 * i, 8, has ? expected : (uint64_t)step(z, K_ZERO, 0));
    }
}

static void scales(ptz *z)
{
    graph g;
    uint32_t number_of = 0, i, j;
    for (; read_graph(z, number_of, &g); number_of++) {
        for (i = 0; i < g.operator_count && !z->status; i++) {
            node n = read_node(z, &g, i);
            for (j = 0; j < n.input_count && !z->status; j++) {
                ptz_tensor *t = tensor_at(z, &g, n.inputs, j);
                if (t) quantization(z, &g, t, &n, j < 3 ? j : 3);
            }
            for (j = 0; j < n.output_count && !z->status; j++) {
                ptz_tensor *t = tensor_at(z, &g, n.outputs, j);
                if (t) quantization(z, &g, t, &n, 4);
            }
        }
        for (i = 0; i < g.count && !z->status; i++) quantization(z, &g, &z->tensors[g.base + i], 0, 5);
    }
}

/* ---- Coders of constants ---- */

static const uint8_t *take_side(ptz *z, uint64_t size)
{
    const uint8_t *from = z->side;
    if (size > z->side_size) {
        fail(z, PTZ_CORRUPT);
        return 0;
    }
    z->side += size, z->side_size -= (size_t)size;
    return from;
}

static void huffman(ptz *z, const uint8_t *in, size_t size, uint8_t *out, uint32_t count, uint32_t stride)
{
    uint16_t of_length[16] = {0};
    uint8_t order[256];
    uint32_t n, s, used = 0, i, total = 0;
    uint64_t position = 0;
    for (n = 1; n < 16; n++)
        for (s = 0; s < 256; s++)
            if (z->table[s] == n) order[used++] = (uint8_t)s, of_length[n]++, total += 1u << (15 - n);
    for (s = 0; s < 256; s++)
        if (z->table[s] > 15) total = 0;
    if (!total || total > 1u << 15) {
        fail(z, PTZ_CORRUPT);
        return;
    }
    for (i = 0; i < count; i++) {
        uint32_t code = 0, first = 0, index = 0;
        for (n = 1; n < 16; n++) {
            if (position >= (uint64_t)size * 8) n = 16;
            if (n == 16) break;
            code = code << 1 | (in[position >> 3] >> (7 - (position & 7)) & 1u);
            position++;
            first <<= 1;
            if (code - first < of_length[n]) break;
            index += of_length[n], first += of_length[n];
        }
        if (n >= 16) {
            fail(z, PTZ_CORRUPT);
            return;
        }
        out[(size_t)i * stride] = order[index + code - first];
    }
}

static void rans(ptz *z, const uint8_t *in, size_t size, uint32_t lanes, uint8_t *out, uint32_t count, uint32_t stride)
{
    uint32_t *state = (uint32_t *)z->levels, first[257], s, i;
    const uint8_t *end = in + size;
    for (first[0] = 0, s = 0; s < 256; s++) first[s + 1] = first[s] + z->table[s];
    if (first[256] != 16384 || size < 4 * (size_t)lanes || size % 2) {
        fail(z, PTZ_CORRUPT);
        return;
    }
    for (i = 0; i < lanes; i++, in += 4) state[i] = in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
    for (i = 0; i < count; i++) {
        uint32_t *x = &state[i & (lanes - 1)], place = *x & 16383, low = 0, high = 256;
        while (high - low > 1) {
            uint32_t middle = (low + high) / 2;
            if (first[middle] <= place) low = middle;
            else high = middle;
        }
        out[(size_t)i * stride] = (uint8_t)low;
        *x = z->table[low] * (*x >> 14) + place - first[low];
        if (*x < 65536) {
            if (end - in < 2) {
                fail(z, PTZ_CORRUPT);
                return;
            }
            *x = *x << 16 | in[0] | (uint32_t)in[1] << 8;
            in += 2;
        }
    }
    for (i = 0; i < lanes; i++)
        if (state[i] != 65536 || in != end) fail(z, PTZ_CORRUPT);
}

static uint32_t width(uint64_t v)
{
    uint32_t n = 0;
    for (; v; v >>= 1) n++;
    return n;
}

static void planes(ptz *z, uint8_t *out, uint32_t length, uint32_t size)
{
    uint32_t i, j, s;
    for (i = 0; i < size && !z->status; i++) {
        uint64_t coder = number(z, K_CODE, i, 0), lanes = 0, bytes;
        uint32_t count = length / size, one = 0, two = 0;
        const uint8_t *from;
        if (coder == 0) {
            from = take_side(z, count);
            for (j = 0; from && j < count; j++) out[(size_t)j * size + i] = from[j];
            continue;
        }
        if (coder > 2) fail(z, PTZ_CORRUPT);
        for (s = 0; s < 256 && !z->status; s++) {
            uint64_t v = number(z, coder == 1 ? K_BITS : K_FREQUENCY, one, two * 32 + one);
            if (v > 16384) fail(z, PTZ_CORRUPT);
            z->table[s ^ 128] = (uint16_t)v;
            two = one, one = coder == 1 ? (uint32_t)v : width(v);
        }
        if (coder == 2) lanes = number(z, K_LANES, 0, 0);
        if (lanes > 8) fail(z, PTZ_CORRUPT);
        bytes = number(z, K_LENGTH, 0, 0);
        from = z->status ? 0 : take_side(z, bytes);
        if (!from) return;
        if (coder == 1) huffman(z, from, (size_t)bytes, out + i, count, size);
        else rans(z, from, (size_t)bytes, 1u << lanes, out + i, count, size);
    }
}

static void store(uint8_t *to, uint32_t size, uint64_t v)
{
    for (; size--; v >>= 8) *to++ = (uint8_t)v;
}

static void integers(ptz *z, uint8_t *out, uint32_t count, uint32_t size, int with_sign)
{
    uint64_t shift = number(z, K_SHIFT, (uint32_t)z->role, 0);
    uint32_t key = z->role == 2 ? K_VALUE : K_VALUE + 1, before = 0, k;
    int has = z->role == 2 && z->own_class_count == count;
    if (shift >= 8 * size) fail(z, PTZ_CORRUPT);
    for (k = 0; k < count && !z->status; k++) {
        uint32_t born = has ? 1 + (z->classes[z->own_classes + k] > 0) : 0;
        int64_t v = whole(z, key, z->current->buffer * 4 + born, before);
        int64_t top = with_sign ? (int64_t)((uint64_t)1 << (8 * size - 1) >> shift) : size < 8 ? (int64_t)((uint64_t)1 << 8 * size >> shift) : 0;
        before = width(v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
        if (before > 31) before = 31;
        if (with_sign && size < 8 && (v < -top || v >= top)) fail(z, PTZ_CORRUPT);
        if (with_sign && size == 8 && shift && (v < -top || v >= top)) fail(z, PTZ_CORRUPT);
        if (!with_sign && (v < 0 || (top && v >= top) || (!top && shift && (uint64_t)v >> (64 - shift)))) fail(z, PTZ_CORRUPT);
        store(out + (size_t)k * size, size, (uint64_t)v << shift);
    }
}

/* How a matrix of integers becomes the bytes of a constant. */
typedef struct {
    uint8_t *out;
    uint32_t rows, columns, size, count_of_levels, center;
    int type, transposed;
    int64_t zero_point;
} sink;

static void set_element(ptz *z, const sink *to, uint32_t row, uint32_t column, int64_t v)
{
    size_t i = to->transposed ? (size_t)column * to->rows + row : (size_t)row * to->columns + column;
    int64_t low = -((int64_t)1 << (8 * (to->size < 8 ? to->size : 4) - 1)), high = -low - 1;
    if (to->count_of_levels) {
        v += to->center;
        if (v < 0 || v >= to->count_of_levels) {
            fail(z, PTZ_CORRUPT);
            return;
        }
        v = z->levels[v];
    }
    if (to->type == T_INT8 || to->type == T_UINT8) {
        v += to->zero_point;
        if (to->type == T_UINT8) low = 0, high = 255;
    } else if (to->type == T_INT4) {
        low = -8, high = 7;
    } else if ((to->type == T_FLOAT32 || to->type == T_FLOAT16) && v < 0) {
        v = low - 1 - v;
    }
    if (v < low || v > high) fail(z, PTZ_CORRUPT);
    else if (to->type != T_INT4) store(to->out + i * to->size, to->size, (uint64_t)v);
    else if (i & 1) to->out[i / 2] = (uint8_t)((to->out[i / 2] & 15) | (v & 15) << 4);
    else to->out[i / 2] = (uint8_t)((to->out[i / 2] & 240) | (v & 15));
}

#define KINDS 21
static const uint16_t class_counts[KINDS] = {0, 1, 2, 3, 4, 6, 8, 11, 15, 21, 29, 41, 57, 80, 112, 160, 230, 330, 480, 700, 1000};

static int matrix_bit(ptz *z, const uint32_t *slots, int n, int64_t *weights, const int32_t *direct, int directs)
{
    return bit(z, z->matrix_p, z->matrix_uses, slots, n, weights, direct, directs, 3);
}

static void fresh(int64_t *weights, int n, int64_t first, int64_t others)
{
    int i;
    for (i = 0; i < n; i++) weights[i] = i ? others : first;
}

/* Let slots begin as those of the table from `first` on. */
static void learned(uint16_t *p, uint8_t *uses, uint32_t first, uint32_t count)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        uint32_t state = ptz_prior[(first + i) / 2] >> 4 * ((first + i) & 1) & 15;
        p[i] = ptz_prior_p[state], uses[i] = ptz_prior_uses[state];
    }
}

static void learned_at(ptz *z, uint32_t at, uint32_t first, uint32_t count)
{
    learned(z->matrix_p + at, z->matrix_uses + at, first, count);
}

static void densities(ptz *z, uint8_t *classes, uint32_t count, const uint8_t *alive, uint32_t alive_count, uint32_t stride)
{
    int64_t weights[5];
    uint32_t k;
    fresh(weights, 5, 22000, 14418);
    memset(z->matrix_uses, 0, KINDS * 132);
    learned_at(z, 0, PTZ_DENSITIES, PTZ_ZEROS - PTZ_DENSITIES);
    for (k = 0; k < count && !z->status; k++) {
        uint32_t one = k ? classes[k - 1] + 1u : 0, two = k > 1 ? classes[k - 2] + 1u : 0; /* each one higher than in the text */
        uint32_t above = stride > 1 && k >= stride ? classes[k - stride] + 1u : 0;
        uint32_t near = ((one + above + two) >> 1) * 2 + (k % stride == 0);
        uint32_t born = alive_count ? alive[k % alive_count] + 1u : 0, found = 0;
        for (; found < KINDS - 1; found++) {
            uint32_t s[5];
            s[0] = found, s[1] = KINDS + found * 22 + one, s[2] = KINDS * 23 + found * 22 + above;
            s[3] = KINDS * 45 + found * 64 + near, s[4] = KINDS * 109 + found * 23 + born;
            if (!matrix_bit(z, s, 5, weights, 0, 0)) break;
        }
        classes[k] = (uint8_t)found;
    }
}

static int32_t logit(const ptz *z, uint32_t kind, uint64_t total)
{
    uint64_t highest = kind + 1 < KINDS ? class_counts[kind + 1] - 1u : total, p;
    p = 65536 * (class_counts[kind] + (highest < total ? highest : total) + 1) / (2 * total + 2);
    return z->stretch[(p < 65535 ? p : 65535) >> 4];
}

static uint32_t sign_of(int64_t v) { return v == 0 ? 0 : v > 0 ? 1 : 2; }
static uint32_t least(uint64_t a, uint32_t b) { return a < b ? (uint32_t)a : b; }

static uint32_t bucket(uint64_t mean, int none)
{
    if (none) return 0;
    return mean < 3 ? (uint32_t)mean : 3u + (mean >= 5) + (mean >= 8) + (mean >= 14) + (mean >= 30);
}

/* Of slots: 0 those of the zero flag, then those of signs and of magnitudes. */
static void matrix(ptz *z, const sink *to, uint32_t up, const uint8_t *alive, uint32_t alive_count, const uint8_t *born,
                   uint32_t born_count, uint8_t *row_classes)
{
    const uint32_t n = to->columns, columns_at = 17, classes_at = columns_at + n, near_at = classes_at + KINDS * KINDS;
    const uint32_t born_at = near_at + 6 * KINDS, size_at = born_at + 22 * KINDS, sign_at = size_at + 25, magnitude_at = sign_at + 26;
    const uint32_t digit_at = magnitude_at + 810;
    int64_t zero_weights[10], sign_weights[4], magnitude_weights[4][4], length_weights[4], digit_weights[2], one_weight = 65536;
    uint64_t total = 0, p;
    uint32_t row, k, i, zero_slot = 0;
    int32_t mean;
    int wide;
    if (n > PTZ_MAX_COLUMNS) {
        fail(z, PTZ_TOO_BIG);
        return;
    }
    memset(z->matrix_uses, 0, sizeof z->matrix_uses);
    wide = matrix_bit(z, &zero_slot, 1, &one_weight, 0, 0);
    densities(z, row_classes, to->rows, born, born_count, 1);
    densities(z, z->column_classes, n, alive, alive_count, up);
    memset(z->matrix_uses, 0, sizeof z->matrix_uses);
    learned_at(z, 0, PTZ_ZEROS, 17), learned_at(z, near_at, PTZ_ZERO_CLASSES, 6 * KINDS), learned_at(z, size_at, PTZ_ZERO_SIZES, 25);
    learned_at(z, sign_at, PTZ_SIGNS, 1);
    if (wide) learned_at(z, magnitude_at, PTZ_LENGTHS, 170), learned_at(z, digit_at, PTZ_DIGITS, 480);
    else learned_at(z, magnitude_at, PTZ_MAGNITUDES, 120);
    fresh(zero_weights, 10, 52000, 5243), fresh(sign_weights, 4, 22000, 14418), fresh(length_weights, 4, 22000, 14418);
    fresh(digit_weights, 2, 22000, 14418);
    for (i = 0; i < 4; i++) fresh(magnitude_weights[i], 4, 22000, 14418);
    for (k = 0; k < n; k++) total += class_counts[z->column_classes[k]];
    p = 65536 * (total + 1) / ((uint64_t)to->rows * n + 2);
    mean = z->stretch[(p < 65535 ? p : 65535) >> 4];
    memset(z->column_counts, 0, n * sizeof *z->column_counts);
    memset(z->column_sizes, 0, n * sizeof *z->column_sizes);
    memset(z->column_signs, 0, n * sizeof *z->column_signs);
    for (row = 0; row < to->rows && !z->status; row++) {
        uint32_t kind = row_classes[row];
        int32_t row_logit = logit(z, kind, n);
        uint64_t seen = 0, row_size = 0;
        int64_t row_sign = 0;
        for (k = 0; k < n && !z->status; k++) {
            int32_t *v = z->row, before = k ? v[k - 1] : 0, two = k > 1 ? v[k - 2] : 0, above = k >= up ? v[k - up] : 0;
            int32_t beside = up > 1 && k >= up ? v[k - up + 1] : 0, direct[3];
            uint32_t column = z->column_classes[k], count = z->column_counts[k], s[7], near, size = 1, j, column_average, row_average;
            uint64_t sizes = z->column_sizes[k];
            int64_t signs = z->column_signs[k];
            int negative;
            v[k] = 0;
            if (!kind || !column) {
                set_element(z, to, row, k, 0);
                continue;
            }
            near = (uint32_t)(before < 0 ? -before : before) + (uint32_t)(above < 0 ? -above : above);
            s[0] = 0, s[1] = 1u + (before != 0) + 2u * (two != 0) + 4u * (above != 0) + 8u * (beside != 0);
            s[2] = columns_at + k, s[3] = classes_at + kind * KINDS + column;
            s[4] = near_at + ((before != 0) + (two != 0) + 2u * (above != 0) + (beside != 0)) * KINDS + column;
            s[5] = born_at + (alive_count ? alive[k % alive_count] + 1u : 0) * KINDS + kind;
            s[6] = size_at + least(near, 4) * 5 + least(count ? sizes / count : 0, 4);
            direct[1] = row_logit, direct[2] = logit(z, column, to->rows), direct[0] = row_logit + direct[2] - mean;
            if (!matrix_bit(z, s, 7, zero_weights, direct, 3)) {
                set_element(z, to, row, k, 0);
                continue;
            }
            s[0] = sign_at, s[1] = sign_at + 1 + 3 * sign_of(before) + sign_of(above);
            s[2] = sign_at + 10 + 3 * sign_of(signs) + least((uint64_t)(signs < 0 ? -signs : signs), 2);
            s[3] = sign_at + 19 + (uint32_t)((row_sign < -3 ? -3 : row_sign > 3 ? 3 : row_sign) + 3);
            negative = matrix_bit(z, s, 4, sign_weights, 0, 0);
            if (wide) {
                uint32_t bits = 0;
                column_average = bucket(count ? 2 * sizes / count / 2 : 0, !count);
                row_average = bucket(seen ? 2 * row_size / seen / 2 : 0, !seen);
                for (;; bits++) {
                    s[0] = magnitude_at + bits, s[1] = magnitude_at + 10 + bits * 8 + column_average;
                    s[2] = magnitude_at + 90 + bits * 8 + row_average;
                    s[3] = magnitude_at + 170 + bits * 64 + column_average * 8 + row_average;
                    if (!matrix_bit(z, s, 4, length_weights, 0, 0)) break;
                    if (bits == 9) {
                        fail(z, PTZ_CORRUPT);
                        break;
                    }
                }
                for (i = bits; i-- > 0;) {
                    uint32_t place = bits * 48 + (bits - i <= 5 ? size : 32 + i);
                    s[0] = digit_at + place, s[1] = digit_at + 480 + place * 8 + column_average;
                    size = size << 1 | (uint32_t)matrix_bit(z, s, 2, digit_weights, 0, 0);
                }
            } else {
                column_average = count ? least(2 * sizes / count, 12) + 1 : 0;
                row_average = seen ? least(2 * row_size / seen, 12) + 1 : 0;
                for (; size < 20; size++) {
                    j = size < 14 ? size : 14;
                    s[0] = magnitude_at + j, s[1] = magnitude_at + 15 + j * 7 + least(near, 6);
                    s[2] = magnitude_at + 120 + j * 14 + column_average, s[3] = magnitude_at + 330 + j * 14 + row_average;
                    if (!matrix_bit(z, s, 4, magnitude_weights[j < 3 ? j : 3], 0, 0)) break;
                }
            }
            v[k] = negative ? -(int32_t)size : (int32_t)size;
            set_element(z, to, row, k, v[k]);
            z->column_counts[k]++, z->column_sizes[k] += size, z->column_signs[k] += negative ? -1 : 1;
            seen++, row_size += size, row_sign += negative ? -1 : 1;
        }
    }
}

static uint32_t type_size(int type)
{
    static const uint8_t bytes[17] = {4, 2, 4, 1, 8, 0, 1, 2, 0, 1, 8, 0, 8, 0, 0, 4, 2};
    return type >= 0 && type < 17 && bytes[type] ? bytes[type] : 1;
}

/* The levels, into z->levels; returns the rank of the one nearest to zero. */
static uint32_t read_levels(ptz *z, uint32_t size, uint32_t *count)
{
    uint64_t levels = number(z, K_LEVELS, 0, 0) + 1;
    int64_t last = whole(z, K_LEVEL, size, 0), nearest = 0;
    uint32_t i, center = 0;
    if (levels > 256) fail(z, PTZ_CORRUPT);
    for (i = 0; i < levels && !z->status; i++) {
        int64_t distance;
        if (i) {
            uint64_t more = number(z, K_LEVEL + 4, size, 0);
            if (more > 0xFFFFFFFFu) fail(z, PTZ_CORRUPT);
            last += (int64_t)(more & 0xFFFFFFFFu) + 1;
        }
        if (last > 0x7FFFFFFF || last < -(int64_t)0x80000000) {
            fail(z, PTZ_CORRUPT);
            break;
        }
        z->levels[i] = (int32_t)last;
        distance = last < 0 ? -last : last;
        if (!i || distance < nearest) nearest = distance, center = i;
    }
    *count = (uint32_t)levels;
    return center;
}

/* Levels, and a plane of ranks: these are decoded into the end of `out`, which the elements then overtake. */
static void code_ranks(ptz *z, uint8_t *out, uint32_t length, uint32_t size)
{
    uint32_t count = length / size, i;
    uint8_t *ranks = out + length - count;
    sink to;
    memset(&to, 0, sizeof to);
    to.out = out, to.size = size, to.type = z->tensor ? z->tensor->type : -1;
    to.rows = 1, to.columns = count;
    to.center = read_levels(z, size, &to.count_of_levels);
    memcpy(z->row, z->levels, sizeof z->levels); /* the static coders need the room of the levels */
    if (!z->status) planes(z, ranks, count, 1);
    memcpy(z->levels, z->row, sizeof z->levels);
    for (i = 0; i < count && !z->status; i++) set_element(z, &to, 0, i, (int64_t)ranks[i] - to.center);
}

static void code_matrix(ptz *z, int mode, uint8_t *out, uint32_t length, uint32_t size)
{
    const ptz_tensor *t = z->tensor;
    uint32_t count = z->current->size / size, i, dimensions[4] = {0}, from = z->own_classes, many = z->own_class_count;
    uint64_t all = 1, up;
    int type = t ? t->type : -1, fits = t && t->dimensions;
    const uint8_t *alive = z->classes + from;
    uint8_t *made = z->classes + z->class_count;
    sink to;
    (void)length;
    memset(&to, 0, sizeof to);
    if (type == T_INT4) count = z->current->size * 2;
    for (i = 0; fits && i < t->dimensions; i++) {
        int32_t d = (int32_t)(uint32_t)get(z, t->shape + 4 * i, 4);
        if (i < 4) dimensions[i] = d > 0 ? (uint32_t)d : 0;
        all *= d > 0 ? (uint32_t)d : 0;
        if (all > count) fits = 0;
    }
    fits = fits && all == count;
    to.out = out, to.size = size, to.type = type;
    to.transposed = fits && z->builtin == DEPTHWISE_CONV_2D && z->role == 1 && t->dimensions == 4 && dimensions[0] == 1;
    to.rows = to.transposed ? dimensions[3] : fits && t->dimensions > 1 ? dimensions[0] : 1;
    to.columns = count / to.rows;
    if (mode == MATRIX && type != T_INT8 && type != T_UINT8 && type != T_INT4) fail(z, PTZ_CORRUPT);
    if (mode == LEVELS) to.center = read_levels(z, size, &to.count_of_levels);
    if (t && (type == T_INT8 || type == T_UINT8) && t->zero_points && z->builtin != -1) {
        to.zero_point = (int64_t)get(z, t->zero_point, 8);
        if (to.zero_point < -128 || to.zero_point > 255) to.zero_point = 0;
    }
    up = number(z, K_UP, (uint32_t)z->builtin, 0);
    if (up == 0 || up > to.columns) fail(z, PTZ_CORRUPT);
    if (to.rows > PTZ_MAX_CLASSES - z->class_count) fail(z, PTZ_TOO_BIG);
    if (z->status) return;
    matrix(z, &to, (uint32_t)up, alive, to.transposed || !many || to.columns % many ? 0 : many, alive,
           to.transposed && many == to.rows ? many : 0, made);
    if (z->role == 1) {
        z->own_classes = z->class_count, z->own_class_count = to.rows;
        z->class_count += to.rows;
    }
}

/* ---- The interface ---- */

static int read_length(ptz *z, uint64_t *v)
{
    int shift;
    for (*v = 0, shift = 0; shift < 63 && z->in_position < z->in_size; shift += 7) {
        uint8_t byte = z->in[z->in_position++];
        *v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return 1;
    }
    return fail(z, PTZ_CORRUPT);
}

ptz_status ptz_open(ptz *z, const void *in, size_t in_size)
{
    uint64_t size;
    memset(z, 0, sizeof *z);
    z->in = (const uint8_t *)in, z->in_size = in_size;
    if (in_size < 4 || memcmp(in, "PTZ", 3) || z->in[3] != 1) return z->status = PTZ_NOT_PTZ;
    if (in_size < 22) return z->status = PTZ_CORRUPT;
    z->method = z->in[4];
    memcpy(z->digest, z->in + 5, 16);
    z->in_position = 21;
    if (!read_length(z, &size)) return z->status;
    if (z->method == 1 || z->method == 2) return z->status = PTZ_UNSUPPORTED;
    if (z->method > 3) return z->status = PTZ_CORRUPT;
    if (size > 1u << 26) return z->status = PTZ_TOO_BIG;
    z->size = (uint32_t)size;
    z->decisions = 8000000;
    return PTZ_OK;
}

static const int32_t *copied(int64_t *to, const int32_t *from, int n)
{
    while (n--) *to++ = *from++;
    return from;
}

static void learned_weights(ptz *z)
{
    const int32_t *from = ptz_prior_weights;
    int i;
    for (i = 0; i < 16; i++) from = copied(z->flag_weights[i], from, 3);
    from = copied(z->length_weights, from, 4), from = copied(z->digit_weights, from, 3);
    from = copied(z->text_weights, from, 5), copied(z->rank_weights, from, 4);
}

static void start_coder(ptz *z, const uint8_t *in, size_t size)
{
    z->in = in, z->in_size = size, z->low = 0, z->high = 0xFFFFFFFFu, z->code = 0;
    for (z->in_position = 0; z->in_position < 4; z->in_position++)
        z->code = z->code << 8 | (z->in_position < size ? in[z->in_position] : 0);
}

ptz_status ptz_structure(ptz *z, void *frame, size_t frame_size)
{
    const uint8_t *in = z->in;
    uint64_t side;
    size_t size = z->in_size, at;
    if (z->status) return z->status;
    if (z->method != 3 || z->phase) return z->status = PTZ_CORRUPT;
    if (!read_length(z, &side)) return z->status;
    at = z->in_position;
    if (side > size - at) return z->status = PTZ_CORRUPT;
    z->phase = 1;
    z->side = in + at, z->side_size = (size_t)side;
    make_stretch(z);
    learned(z->p, z->uses, PTZ_NUMBERS, PTZ_SLOTS);
    learned_weights(z);
    start_coder(z, in + at + side, size - at - (size_t)side);
    z->frame = (uint8_t *)frame, z->capacity = frame_size < z->size ? frame_size : z->size;
    memset(frame, 0, z->capacity);
    walk(z, z->size);
    z->frame_size = z->size - z->cut;
    if (!z->status && z->frame_size > z->capacity) fail(z, PTZ_TOO_BIG);
    if (!z->status) read_tensors(z);
    if (!z->status) scales(z);
    z->input = UINT32_MAX;
    return z->status;
}

/* The next constant that is not done: those that operators use, in their order. */
static int next_used(ptz *z)
{
    graph g;
    for (; read_graph(z, z->graph, &g); z->graph++, z->operator_index = 0) {
        for (; z->operator_index < g.operator_count; z->operator_index++, z->input = UINT32_MAX) {
            node n = read_node(z, &g, z->operator_index);
            ptz_tensor *t;
            if (z->status) return 0;
            if (z->input == UINT32_MAX) { /* the operator begins: what its input's channels are like */
                t = n.input_count ? tensor_at(z, &g, n.inputs, 0) : 0;
                z->own_classes = t ? t->classes : 0, z->own_class_count = t ? t->class_count : 0;
            }
            for (z->input++; z->input < n.input_count && !z->status; z->input++) {
                uint32_t i;
                t = tensor_at(z, &g, n.inputs, z->input);
                if (!t) continue;
                for (i = 0; i < z->hole_count; i++)
                    if (z->holes[i].buffer == t->buffer && !z->holes[i].done) break;
                if (i == z->hole_count) continue;
                z->current = &z->holes[i], z->tensor = t;
                z->builtin = (int)n.code, z->role = z->input < 8 ? (int)z->input : 8;
                return 1;
            }
            t = n.output_count ? tensor_at(z, &g, n.outputs, 0) : 0;
            if (t && z->own_class_count) t->classes = z->own_classes, t->class_count = z->own_class_count;
        }
        z->operator_index = 0;
    }
    return 0;
}

ptz_status ptz_next(ptz *z, ptz_constant *c)
{
    uint32_t i;
    if (z->status) return z->status;
    if (!z->phase || z->pending) return z->status = PTZ_CORRUPT;
    if (z->phase == 1 && !next_used(z)) z->phase = 2;
    if (z->status) return z->status;
    if (z->phase == 2) {
        z->current = 0, z->tensor = 0, z->builtin = -1, z->role = 9, z->own_class_count = 0;
        for (i = 0; i < z->hole_count; i++)
            if (!z->holes[i].done && (!z->current || z->holes[i].buffer < z->current->buffer)) z->current = &z->holes[i];
        if (!z->current) return z->side_size ? (z->status = PTZ_CORRUPT) : PTZ_END;
        for (i = 0; i < z->tensor_count && !z->tensor; i++)
            if (z->tensors[i].buffer == z->current->buffer) z->tensor = &z->tensors[i];
    }
    z->pending = 1;
    c->buffer = z->current->buffer, c->position = z->current->position, c->size = z->current->size;
    c->type = z->tensor ? z->tensor->type : -1, c->tensor = -1;
    if (z->tensor) {
        graph g;
        uint32_t index = (uint32_t)(z->tensor - z->tensors);
        for (i = 0; read_graph(z, i, &g) && index >= g.base + g.count; i++) continue;
        c->tensor = (int)(index - g.base);
    }
    return z->status;
}

ptz_status ptz_decode(ptz *z, void *out, size_t out_size)
{
    /* bytes of an integer by type, negative without sign */
    static const int8_t integer_sizes[17] = {0, 0, 4, -1, 8, 0, 0, 2, 0, 1, 0, 0, -8, 0, 0, -4, -2};
    uint8_t *to = (uint8_t *)out;
    const uint8_t *from;
    uint32_t length, size, i;
    uint64_t mode;
    int type, integer;
    if (z->status) return z->status;
    if (!z->pending) return z->status = PTZ_CORRUPT;
    length = z->current->size;
    if (out_size < length) return z->status = PTZ_TOO_BIG;
    type = z->tensor ? z->tensor->type : -1;
    size = type_size(type);
    if (length % size) size = 1;
    integer = type >= 0 && type < 17 ? integer_sizes[type] : 0;
    mode = number(z, K_MODE, (uint32_t)type, (uint32_t)z->role);
    if (mode == STORED) {
        from = take_side(z, length);
        if (from) memcpy(to, from, length);
    } else if (mode == ZSTD) {
        fail(z, PTZ_UNSUPPORTED);
    } else if (mode == PLANES) {
        planes(z, to, length, size);
    } else if (mode == INTEGERS && integer && (uint32_t)(integer < 0 ? -integer : integer) == size) {
        integers(z, to, length / size, size, integer > 0);
    } else if (mode == FLOATS && type == T_FLOAT32 && size == 4) {
        for (i = 0; i < length / 4 && !z->status; i++) store(to + 4 * i, 4, float_bits(z, K_FLOAT + (z->role == 2 ? 2 : 0)));
    } else if (mode == MATRIX || mode == LEVELS) {
        code_matrix(z, (int)mode, to, length, size);
    } else if (mode == RANKS && size > 1) {
        code_ranks(z, to, length, size);
    } else if (mode == TEXT) {
        text(z, K_VALUE, length, to);
    } else {
        fail(z, PTZ_CORRUPT);
    }
    z->current->done = 1;
    z->pending = 0;
    return z->status;
}

static void sha256(const uint8_t *data, size_t size, uint8_t out[32])
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
        0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
        0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
        0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
        0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
        0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    size_t blocks = (size + 9 + 63) / 64, b;
    int i;
#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))
    for (b = 0; b < blocks; b++) {
        uint32_t w[64], s[8], t1, t2;
        for (i = 0; i < 16; i++) {
            int j;
            for (w[i] = 0, j = 0; j < 4; j++) {
                size_t at = b * 64 + (size_t)i * 4 + (size_t)j;
                uint8_t byte = at < size ? data[at] : at == size ? 128 : 0;
                if (b + 1 == blocks && i >= 14) byte = (uint8_t)((uint64_t)size * 8 >> (8 * (7 - ((i - 14) * 4 + j))));
                w[i] = w[i] << 8 | byte;
            }
        }
        for (; i < 64; i++)
            w[i] = w[i - 16] + w[i - 7] + (ROTATE(w[i - 15], 7) ^ ROTATE(w[i - 15], 18) ^ w[i - 15] >> 3) +
                   (ROTATE(w[i - 2], 17) ^ ROTATE(w[i - 2], 19) ^ w[i - 2] >> 10);
        memcpy(s, h, sizeof s);
        for (i = 0; i < 64; i++) {
            t1 = s[7] + (ROTATE(s[4], 6) ^ ROTATE(s[4], 11) ^ ROTATE(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
            t2 = (ROTATE(s[0], 2) ^ ROTATE(s[0], 13) ^ ROTATE(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 7 * sizeof *s);
            s[4] += t1, s[0] = t1 + t2;
        }
        for (i = 0; i < 8; i++) h[i] += s[i];
    }
#undef ROTATE
    for (i = 0; i < 32; i++) out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

ptz_status ptz_unpack(ptz *z, void *out, size_t out_size)
{
    uint8_t digest[32], *to = (uint8_t *)out;
    ptz_constant c;
    uint32_t i, end, from;
    if (z->status) return z->status;
    if (out_size < z->size) return z->status = PTZ_TOO_BIG;
    if (z->method == 0) {
        if (z->in_size - z->in_position != z->size) return z->status = PTZ_CORRUPT;
        memcpy(to, z->in + z->in_position, z->size);
    } else {
        if (ptz_structure(z, out, z->size)) return z->status;
        for (end = z->size, i = z->hole_count; i--; end = z->holes[i].position) { /* make room, from the end */
            from = z->holes[i].position + z->holes[i].size;
            memmove(to + from, to + from - z->holes[i].before - z->holes[i].size, end - from);
        }
        z->filled = 1;
        while (ptz_next(z, &c) == PTZ_OK)
            if (ptz_decode(z, to + c.position, c.size)) return z->status;
        if (z->status) return z->status;
    }
    sha256(to, z->size, digest);
    return memcmp(digest, z->digest, 16) ? (z->status = PTZ_CORRUPT) : PTZ_OK;
}
