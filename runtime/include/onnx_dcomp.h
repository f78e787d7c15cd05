/*
 * Packed ONNX models for C, and for every language that calls C.
 *
 * A model is opened once; its payloads are decoded in parallel. What comes out is a graph in plain ONNX, and tensors by
 * name. Runtimes that take weights beside the graph (onnxruntime: AddExternalInitializers) get both, and optimise as if
 * the file had been dense:
 *
 *     onnx_dcomp_model *model;
 *     if (onnx_dcomp_open("net.packed.onnx", &model) != ONNX_DCOMP_OK) {
 *         fprintf(stderr, "%s\n", onnx_dcomp_last_error());
 *         return 1;
 *     }
 *     for (size_t i = 0; i < onnx_dcomp_tensor_count(model); i++) {
 *         onnx_dcomp_tensor tensor;
 *         onnx_dcomp_tensor_at(model, i, &tensor);
 *         ...
 *     }
 *     onnx_dcomp_close(model);
 *
 * An open model never changes, and any number of threads may read it. Link with -lonnx_dcomp_c.
 */
#ifndef ONNX_DCOMP_H
#define ONNX_DCOMP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a call ended. */
typedef enum onnx_dcomp_code {
    ONNX_DCOMP_OK = 0,
    /* A pointer is null that must not be, or there is no such tensor. */
    ONNX_DCOMP_ARGUMENT = 1,
    /* The file cannot be read, or is no ONNX model. */
    ONNX_DCOMP_UNREADABLE = 2,
    /* A payload is damaged, or does not belong to its node. */
    ONNX_DCOMP_BROKEN = 3,
    /* A payload was written by a newer version than this library. */
    ONNX_DCOMP_NEWER = 4,
    /* This library made a mistake; please report it. */
    ONNX_DCOMP_BUG = 5
} onnx_dcomp_code;

/* An open model. */
typedef struct onnx_dcomp_model onnx_dcomp_model;

/* A tensor of an open model; its pointers are valid until the model is closed. */
typedef struct onnx_dcomp_tensor {
    /* Its name in the graph, in UTF-8. */
    const char *name;
    /* Type of an element: a number of ONNX' TensorProto.DataType, such as 1 for float. */
    int32_t data_type;
    /* 1 where the graph holds the tensor itself; 0 where whoever runs the graph has to hand it over. */
    int32_t in_graph;
    /* Number of dimensions; 0 for a scalar. */
    size_t rank;
    /* Dimensions, outermost first. */
    const int64_t *shape;
    /* Size of the data. */
    size_t bytes;
    /* The elements, row by row, in this machine's byte order where that is little-endian; aligned to 8 bytes. */
    const void *data;
} onnx_dcomp_tensor;

/* The version of this library, such as "0.1.0". */
const char *onnx_dcomp_version(void);

/* What the last call that failed in this thread has to say: what was wrong, where, and what to do. Valid until the next
 * failure in this thread. */
const char *onnx_dcomp_last_error(void);

/* Opens the model in the file at `path` (UTF-8, on Unix any bytes), packed or not, and decodes it. External data is
 * looked for beside it. On failure `*model` is null. */
onnx_dcomp_code onnx_dcomp_open(const char *path, onnx_dcomp_model **model);

/* The same for a model of `length` bytes in memory, which are not needed any more afterwards. External data is refused. */
onnx_dcomp_code onnx_dcomp_open_bytes(const uint8_t *bytes, size_t length, onnx_dcomp_model **model);

/* Frees the model and all that it gave out. Null is fine. */
void onnx_dcomp_close(onnx_dcomp_model *model);

/* The graph as plain ONNX. Tensors with `in_graph` 0 have name, type and shape there, and their data is said to be
 * external: hand them over with the graph. */
onnx_dcomp_code onnx_dcomp_graph(const onnx_dcomp_model *model, const uint8_t **bytes, size_t *length);

/* Number of tensors: the weights of the main graph, and its other constants of floating point or 8-bit integers. */
size_t onnx_dcomp_tensor_count(const onnx_dcomp_model *model);

/* Tensor `index`, from 0; those with `in_graph` 0 come first. */
onnx_dcomp_code onnx_dcomp_tensor_at(const onnx_dcomp_model *model, size_t index, onnx_dcomp_tensor *tensor);

/* The tensor called `name`. */
onnx_dcomp_code onnx_dcomp_tensor_named(const onnx_dcomp_model *model, const char *name, onnx_dcomp_tensor *tensor);

#ifdef __cplusplus
}
#endif

#endif
