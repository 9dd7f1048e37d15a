/* Decoder of .ptz containers for small machines: no allocation, no library, integers (one float product aside).
 *
 * Two ways to use it:
 *
 *   static ptz z;
 *   ptz_open(&z, in, in_size);
 *   ptz_unpack(&z, out, z.size);                 the whole .tflite, and its SHA-256 compared
 *
 * or tensor by tensor, in RAM for the largest constant and for what is around them:
 *
 *   ptz_open(&z, in, in_size);
 *   ptz_structure(&z, frame, frame_size);        the file without its constants: z.frame_size bytes
 *   while (ptz_next(&z, &c) == PTZ_OK)           constants in the order in which they were coded
 *       ptz_decode(&z, buffer, buffer_size);     c.size bytes that belong to the file at c.position
 *
 * Constants build on one another: each must be decoded before the next. In `frame` a byte of the file at position p
 * stands at p less the sizes of all constants before p.
 *
 * Not supported: containers and constants that zstd coded, and the former native method (PTZ_UNSUPPORTED);
 * `pack(..., zstd=False)` makes none.
 * Every input is safe: it is either decoded or refused. Time is at most about `z.decisions` steps of some hundred
 * instructions each, and one pass over the file; set it lower after ptz_open to be stricter.
 */
#ifndef PTZ_H
#define PTZ_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Largest things that can be decoded; more needs more RAM. sizeof(ptz) says how much it is. */
#ifndef PTZ_MAX_TENSORS
#define PTZ_MAX_TENSORS 512
#endif
#ifndef PTZ_MAX_OPERATORS /* operator codes */
#define PTZ_MAX_OPERATORS 64
#endif
#ifndef PTZ_MAX_CONSTANTS
#define PTZ_MAX_CONSTANTS 256
#endif
#ifndef PTZ_MAX_PLACES /* references that are open at a time */
#define PTZ_MAX_PLACES 1536
#endif
#ifndef PTZ_MAX_LAYOUTS
#define PTZ_MAX_LAYOUTS 96
#endif
#ifndef PTZ_MAX_KEYS
#define PTZ_MAX_KEYS 160
#endif
#ifndef PTZ_MAX_COLUMNS /* elements of a kernel that make one output */
#define PTZ_MAX_COLUMNS 2048
#endif
#ifndef PTZ_MAX_CLASSES /* output channels of all kernels together, and of one twice */
#define PTZ_MAX_CLASSES 4096
#endif

#define PTZ_MAX_FIELDS 24
#define PTZ_WINDOW 4096
#define PTZ_SLOTS 8192
#define PTZ_MATRIX_SLOTS (8192 + PTZ_MAX_COLUMNS)
#define PTZ_OPEN 255

typedef enum {
    PTZ_OK = 0,
    PTZ_END = 1,         /* ptz_next: there are no more constants */
    PTZ_NOT_PTZ = -1,    /* no container, or one of another version */
    PTZ_CORRUPT = -2,    /* damaged */
    PTZ_TOO_BIG = -3,    /* beyond a PTZ_MAX_... or a buffer that was given */
    PTZ_UNSUPPORTED = -4 /* coded with zstd, or by the former native method */
} ptz_status;

typedef struct {
    uint32_t buffer;   /* its number in the model's buffers */
    uint32_t position; /* of its first byte in the file */
    uint32_t size;     /* in bytes */
    int tensor;        /* number of the first tensor that uses it, in its subgraph; -1 for none */
    int type;          /* the tensor's TensorType; -1 for none */
} ptz_constant;

typedef struct {
    uint32_t key, start;
    int64_t last, step;
    uint8_t begun;
} ptz_key;

typedef struct {
    uint32_t key, places, count, first_place;
    int64_t elements;
    uint32_t index;
    int32_t near;
    uint8_t aux, kind; /* kind: 't' 's' 'S' 'v' or a vector of numbers */
    uint8_t table;
} ptz_reference;

typedef struct {
    uint16_t offsets[PTZ_MAX_FIELDS];
    uint16_t size;
    uint8_t slots;
    uint8_t placed;
    uint32_t position; /* when not placed: the last table that waits for it */
} ptz_layout;

typedef struct {
    uint32_t position, size, buffer, before;
    uint8_t done;
} ptz_hole;

typedef struct {
    uint32_t shape, dimensions, buffer, scale, scales, zero_point, zero_points;
    uint32_t classes, class_count;
    int type;
    uint8_t scale_done, zero_point_done;
} ptz_tensor;

typedef struct {
    /* the container */
    const uint8_t *in;
    size_t in_size, in_position;
    const uint8_t *side;
    size_t side_size;
    uint32_t size;       /* bytes of the file */
    uint32_t frame_size; /* bytes of it without its constants; after ptz_structure */
    uint8_t method;
    uint8_t digest[16];
    uint64_t decisions;
    ptz_status status;
    /* the arithmetic coder */
    uint32_t low, high, code;
    int16_t stretch[4096];
    /* numbers */
    uint16_t p[PTZ_SLOTS];
    uint8_t uses[PTZ_SLOTS];
    int64_t flag_weights[16][3], length_weights[4], digit_weights[3], text_weights[5], rank_weights[4];
    ptz_key keys[PTZ_MAX_KEYS];
    uint32_t key_count;
    int64_t recent[15];
    uint32_t recent_count;
    uint8_t history[PTZ_WINDOW];
    uint32_t written;
    /* the walk */
    uint8_t *frame;
    size_t capacity;
    uint32_t at, last, cut, walk_size;
    uint8_t filled; /* constants stand in the frame, which is the file */
    ptz_reference open[PTZ_OPEN];
    uint32_t open_count;
    uint32_t places[PTZ_MAX_PLACES];
    uint32_t numbers[PTZ_MAX_PLACES];
    uint32_t place_count;
    ptz_layout layouts[PTZ_MAX_LAYOUTS];
    uint32_t layout_count;
    uint8_t used_kind[2 * PTZ_MAX_LAYOUTS], used[2 * PTZ_MAX_LAYOUTS];
    uint32_t used_count;
    uint32_t masks[256];
    ptz_hole holes[PTZ_MAX_CONSTANTS];
    uint32_t hole_count;
    /* tensors */
    ptz_tensor tensors[PTZ_MAX_TENSORS];
    uint32_t tensor_count;
    int32_t operator_codes[PTZ_MAX_OPERATORS];
    uint32_t operator_code_count;
    /* constants */
    uint32_t graph, operator_index, input, next_hole;
    uint32_t own_classes, own_class_count;
    uint8_t phase, pending;
    ptz_hole *current;
    ptz_tensor *tensor;
    int builtin, role;
    uint8_t classes[PTZ_MAX_CLASSES];
    uint32_t class_count;
    uint16_t matrix_p[PTZ_MATRIX_SLOTS];
    uint8_t matrix_uses[PTZ_MATRIX_SLOTS];
    int32_t row[PTZ_MAX_COLUMNS];
    uint8_t column_classes[PTZ_MAX_COLUMNS];
    uint32_t column_counts[PTZ_MAX_COLUMNS];
    uint64_t column_sizes[PTZ_MAX_COLUMNS];
    int32_t column_signs[PTZ_MAX_COLUMNS];
    int32_t levels[256];
    uint16_t table[256];
} ptz;

/* Read the header. */
ptz_status ptz_open(ptz *z, const void *in, size_t in_size);
/* Decode the whole file into `out`, of at least z->size bytes. */
ptz_status ptz_unpack(ptz *z, void *out, size_t out_size);
/* Decode what is around the constants into `frame`. Only for containers whose method is native. */
ptz_status ptz_structure(ptz *z, void *frame, size_t frame_size);
/* Go to the next constant: PTZ_OK, PTZ_END, or an error. */
ptz_status ptz_next(ptz *z, ptz_constant *constant);
/* Decode the constant that ptz_next named into `out`, of at least its size. */
ptz_status ptz_decode(ptz *z, void *out, size_t out_size);

#ifdef __cplusplus
}
#endif
#endif
