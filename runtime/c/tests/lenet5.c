/* Decodes a LeNet-5 with the C library, and runs it on one image: lenet5 MODEL IMAGE [memory]
 *
 * IMAGE holds 28 by 28 floats. The ten outputs go to the standard output, one a line. Where the model cannot be opened,
 * the reason goes to the standard error, and its code is the exit code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx_dcomp.h"

#define FLOAT 1

static onnx_dcomp_model *model;

/* The weight with these first two dimensions, which tell LeNet-5's apart; `second` is 0 for biases. */
static const float *weight(int64_t first, int64_t second) {
    for (size_t i = 0; i < onnx_dcomp_tensor_count(model); i++) {
        onnx_dcomp_tensor tensor, again;
        if (onnx_dcomp_tensor_at(model, i, &tensor) != ONNX_DCOMP_OK || tensor.data_type != FLOAT) continue;
        if (tensor.shape[0] != first || (tensor.rank > 1 ? tensor.shape[1] : 0) != second) continue;
        size_t elements = 1;
        for (size_t axis = 0; axis < tensor.rank; axis++) elements *= (size_t)tensor.shape[axis];
        if (elements * sizeof(float) != tensor.bytes) break;
        if (onnx_dcomp_tensor_named(model, tensor.name, &again) != ONNX_DCOMP_OK || again.data != tensor.data) break;
        return tensor.data;
    }
    fprintf(stderr, "no weight of %lld by %lld\n", (long long)first, (long long)second);
    exit(100);
}

/* A convolution with 5 by 5 kernels, and the largest of each 2 by 2. */
static void layer(const float *in, int channels, int size, const float *kernels, const float *bias, int filters,
                  float *out) {
    int inner = size - 4, pooled = inner / 2;
    for (int f = 0; f < filters; f++)
        for (int y = 0; y < pooled * 2; y++)
            for (int x = 0; x < pooled * 2; x++) {
                float sum = bias[f];
                for (int c = 0; c < channels; c++)
                    for (int ky = 0; ky < 5; ky++)
                        for (int kx = 0; kx < 5; kx++)
                            sum += in[(c * size + y + ky) * size + x + kx] * kernels[((f * channels + c) * 5 + ky) * 5 + kx];
                float *cell = &out[(f * pooled + y / 2) * pooled + x / 2];
                if ((y % 2 == 0 && x % 2 == 0) || sum > *cell) *cell = sum;
            }
}

static void dense(const float *in, int inputs, const float *weights, const float *bias, int outputs, float *out) {
    for (int o = 0; o < outputs; o++) {
        out[o] = bias[o];
        for (int i = 0; i < inputs; i++) out[o] += in[i] * weights[o * inputs + i];
    }
}

static unsigned char *whole_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) exit(101);
    *length = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*length);
    if (!bytes || fread(bytes, 1, *length, file) != *length) exit(102);
    fclose(file);
    return bytes;
}

int main(int count, char **arguments) {
    size_t length;
    onnx_dcomp_code code;
    if (count < 3) return 103;
    if (count > 3) {
        unsigned char *bytes = whole_file(arguments[1], &length);
        code = onnx_dcomp_open_bytes(bytes, length, &model);
        free(bytes);
    } else {
        code = onnx_dcomp_open(arguments[1], &model);
    }
    if (code != ONNX_DCOMP_OK) {
        fprintf(stderr, "%s\n", onnx_dcomp_last_error());
        return model ? 104 : (int)code;
    }
    const uint8_t *graph;
    if (onnx_dcomp_graph(model, &graph, &length) != ONNX_DCOMP_OK || length == 0) return 105;
    if (onnx_dcomp_tensor_at(model, 1000, &(onnx_dcomp_tensor){0}) != ONNX_DCOMP_ARGUMENT) return 106;
    if (onnx_dcomp_open(NULL, &model) != ONNX_DCOMP_ARGUMENT || !strstr(onnx_dcomp_last_error(), "path")) return 107;

    unsigned char *bytes = whole_file(arguments[2], &length);
    static float image[28 * 28], first[20 * 12 * 12], second[50 * 4 * 4], hidden[500], output[10];
    if (length != sizeof image) return 108;
    memcpy(image, bytes, sizeof image);
    free(bytes);
    layer(image, 1, 28, weight(20, 1), weight(20, 0), 20, first);
    layer(first, 20, 12, weight(50, 20), weight(50, 0), 50, second);
    dense(second, 50 * 4 * 4, weight(500, 800), weight(500, 0), 500, hidden);
    for (int i = 0; i < 500; i++)
        if (hidden[i] < 0) hidden[i] = 0;
    dense(hidden, 500, weight(10, 500), weight(10, 0), 10, output);
    for (int i = 0; i < 10; i++) printf("%.9g\n", output[i]);
    onnx_dcomp_close(model);
    onnx_dcomp_close(NULL);
    return 0;
}
