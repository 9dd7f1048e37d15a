/* unpack IN.ptz OUT.tflite: the decoder as a command, for tests. With a third argument it goes tensor by tensor. */
#include "ptz.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ptz z;

static unsigned char *load(const char *name, size_t *size)
{
    FILE *f = fopen(name, "rb");
    unsigned char *data;
    if (!f) return 0;
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    data = malloc(*size + 1);
    if (fread(data, 1, *size, f) != *size) return 0;
    fclose(f);
    return data;
}

/* The file from its frame and its constants, each decoded into a buffer of its own size. */
static ptz_status by_tensor(unsigned char *out)
{
    unsigned char *frame = malloc(z.size + 1), *buffer = malloc(z.size + 1);
    unsigned i, at = 0, from = 0;
    ptz_constant c;
    ptz_status status = ptz_structure(&z, frame, z.size);
    while (status == PTZ_OK && (status = ptz_next(&z, &c)) == PTZ_OK && (status = ptz_decode(&z, buffer, c.size)) == PTZ_OK) {
        memcpy(out + c.position, buffer, c.size);
        fprintf(stderr, "constant of buffer %u, tensor %d, type %d: %u bytes\n", (unsigned)c.buffer, c.tensor, c.type, (unsigned)c.size);
    }
    for (i = 0; status == PTZ_END && i <= z.hole_count; i++) {
        unsigned end = i < z.hole_count ? z.holes[i].position : z.size;
        memcpy(out + at, frame + from, end - at);
        from += end - at;
        at = i < z.hole_count ? end + z.holes[i].size : end;
    }
    free(frame);
    free(buffer);
    return status == PTZ_END ? PTZ_OK : status;
}

int main(int argc, char **argv)
{
    size_t size;
    unsigned char *in, *out;
    FILE *f;
    ptz_status status;
    if (argc < 3 || !(in = load(argv[1], &size))) return 2;
    status = ptz_open(&z, in, size);
    out = malloc((size_t)z.size + 1);
    if (status == PTZ_OK) status = argc > 3 && z.method == 3 ? by_tensor(out) : ptz_unpack(&z, out, z.size);
    if (status) {
        printf("status %d\n", status);
    } else {
        f = fopen(argv[2], "wb");
        if (!f || fwrite(out, 1, z.size, f) != z.size || fclose(f)) return 2;
    }
    free(in);
    free(out);
    return status != 0;
}
