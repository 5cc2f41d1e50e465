/* What a kernel needs, read from its SPIR-V: capabilities, size of the workgroup, shared memory. */
#include "layer.h"

#include <stdlib.h>
#include <string.h>

/* From the SPIR-V specification. */
enum {
    OP_CAPABILITY = 17,
    OP_EXECUTION_MODE = 16,
    OP_TYPE_BOOL = 20,
    OP_TYPE_INT = 21,
    OP_TYPE_FLOAT = 22,
    OP_TYPE_VECTOR = 23,
    OP_TYPE_MATRIX = 24,
    OP_TYPE_ARRAY = 28,
    OP_TYPE_STRUCT = 30,
    OP_TYPE_POINTER = 32,
    OP_CONSTANT = 43,
    OP_CONSTANT_COMPOSITE = 44,
    OP_SPEC_CONSTANT = 50,
    OP_SPEC_CONSTANT_COMPOSITE = 51,
    OP_SPEC_CONSTANT_OP = 52,
    OP_VARIABLE = 59,
    OP_DECORATE = 71,
    OP_IADD = 128,
    OP_ISUB = 130,
    OP_IMUL = 132,
    OP_UDIV = 134,
    OP_SDIV = 135,
    OP_UMOD = 137,
    OP_SELECT = 169,
    OP_IEQUAL = 170,
    OP_INOTEQUAL = 171,
    OP_UGREATER = 172,
    OP_ULESS = 176,
    OP_SHIFT_RIGHT = 194,
    OP_SHIFT_LEFT = 196,
    OP_OR = 197,
    OP_AND = 199,
    MODE_LOCAL_SIZE = 17,
    DECORATION_SPEC_ID = 1,
    DECORATION_BUILTIN = 11,
    BUILTIN_WORKGROUP_SIZE = 25,
    STORAGE_WORKGROUP = 4,
    HEADER_WORDS = 5,
};

/* What is known of an id. */
struct id {
    uint64_t bytes;   /* types: of a value */
    uint32_t value;   /* constants, as specialised */
    uint32_t target;  /* pointers: type that they point to */
    uint32_t part[3]; /* composites: first ids */
    uint32_t spec_id;
    bool has_spec_id, workgroup_size;
};

struct reader {
    const struct qt_device *device;
    const VkSpecializationInfo *special;
    struct id *ids;
    uint32_t n_ids;
    uint32_t size[3]; /* of the workgroup */
    uint64_t shared;  /* bytes */
};

/* ---------------------------------------------------------------- capabilities */

static void check_capability(uint32_t capability)
{
    static const struct {
        uint32_t first, last;
        enum qt_setting setting;
        const char *name;
    } known[] = {
        {9, 9, QT_SET_shaderFloat16, "Float16"},
        {11, 11, QT_SET_shaderInt64, "Int64"},
        {22, 22, QT_SET_shaderInt16, "Int16"},
        {39, 39, QT_SET_shaderInt8, "Int8"},
        {62, 68, QT_SET_subgroupArithmetic, "GroupNonUniform..."},
        {4433, 4433, QT_SET_storageBuffer16BitAccess, "StorageBuffer16BitAccess"},
        {4448, 4448, QT_SET_storageBuffer8BitAccess, "StorageBuffer8BitAccess"},
        {5347, 5347, QT_SET_bufferDeviceAddress, "PhysicalStorageBufferAddresses"},
        {6016, 6019, QT_SET_shaderIntegerDotProduct, "DotProduct"},
    };
    for (size_t i = 0; i < QT_LEN(known); i++)
        if (capability >= known[i].first && capability <= known[i].last && qt_feature_off(known[i].setting))
            qt_breach("a pipeline with capability %s (%u), which is not there", known[i].name, capability);
}

/* ---------------------------------------------------------------- constants and types */

static uint32_t specialised(const struct reader *r, const struct id *id, uint32_t value)
{
    for (uint32_t i = 0; id->has_spec_id && r->special && i < r->special->mapEntryCount; i++) {
        const VkSpecializationMapEntry *entry = &r->special->pMapEntries[i];
        if (entry->constantID == id->spec_id && entry->size == sizeof value)
            memcpy(&value, (const char *)r->special->pData + entry->offset, sizeof value);
    }
    return value;
}

/* The few operations that sizes are computed with; others give 0. */
static uint32_t compute(uint32_t op, uint32_t a, uint32_t b)
{
    switch (op) {
    case OP_IADD:
        return a + b;
    case OP_ISUB:
        return a - b;
    case OP_IMUL:
        return a * b;
    case OP_UDIV:
    case OP_SDIV:
        return b ? a / b : 0;
    case OP_UMOD:
        return b ? a % b : 0;
    case OP_IEQUAL:
        return a == b;
    case OP_INOTEQUAL:
        return a != b;
    case OP_UGREATER:
        return a > b;
    case OP_ULESS:
        return a < b;
    case OP_SHIFT_RIGHT:
        return b < 32 ? a >> b : 0;
    case OP_SHIFT_LEFT:
        return b < 32 ? a << b : 0;
    case OP_OR:
        return a | b;
    case OP_AND:
        return a & b;
    default:
        return 0;
    }
}

static struct id *id_of(struct reader *r, uint32_t id)
{
    return &r->ids[id < r->n_ids ? id : 0];
}

/* Instructions that define types; w: their words. */
static void read_type(struct reader *r, uint32_t op, const uint32_t *w, uint32_t n)
{
    struct id *id = id_of(r, w[1]);
    switch (op) {
    case OP_TYPE_BOOL:
        id->bytes = 4;
        break;
    case OP_TYPE_INT:
    case OP_TYPE_FLOAT:
        id->bytes = w[2] / 8;
        break;
    case OP_TYPE_VECTOR:
    case OP_TYPE_MATRIX:
        id->bytes = id_of(r, w[2])->bytes * w[3];
        break;
    case OP_TYPE_ARRAY:
        id->bytes = id_of(r, w[2])->bytes * id_of(r, w[3])->value;
        break;
    case OP_TYPE_STRUCT:
        for (uint32_t i = 2; i < n; i++)
            id->bytes += id_of(r, w[i])->bytes;
        break;
    case OP_TYPE_POINTER:
        id->target = w[3];
        break;
    default:
        break;
    }
}

static void read_constant(struct reader *r, uint32_t op, const uint32_t *w, uint32_t n)
{
    struct id *id = id_of(r, w[2]);
    if (op == OP_CONSTANT || op == OP_SPEC_CONSTANT) {
        id->value = specialised(r, id, w[3]);
    } else if (op == OP_SPEC_CONSTANT_OP && n == 7 && w[3] == OP_SELECT) {
        id->value = id_of(r, id_of(r, w[4])->value ? w[5] : w[6])->value;
    } else if (op == OP_SPEC_CONSTANT_OP && n >= 6) {
        id->value = compute(w[3], id_of(r, w[4])->value, id_of(r, w[5])->value);
    } else if (op == OP_SPEC_CONSTANT_COMPOSITE || op == OP_CONSTANT_COMPOSITE) {
        for (uint32_t i = 3; i < n && i < 6; i++)
            id->part[i - 3] = w[i];
        for (int i = 0; i < 3 && id->workgroup_size; i++)
            r->size[i] = id_of(r, id->part[i])->value;
    }
}

static void read_instruction(struct reader *r, uint32_t op, const uint32_t *w, uint32_t n)
{
    if (op == OP_CAPABILITY) {
        check_capability(w[1]);
    } else if (op == OP_EXECUTION_MODE && n == 6 && w[2] == MODE_LOCAL_SIZE) {
        memcpy(r->size, w + 3, sizeof r->size);
    } else if (op == OP_DECORATE && n == 4 && w[2] == DECORATION_SPEC_ID) {
        id_of(r, w[1])->has_spec_id = true;
        id_of(r, w[1])->spec_id = w[3];
    } else if (op == OP_DECORATE && n == 4 && w[2] == DECORATION_BUILTIN) {
        id_of(r, w[1])->workgroup_size = w[3] == BUILTIN_WORKGROUP_SIZE;
    } else if (op >= OP_TYPE_BOOL && op <= OP_TYPE_POINTER) {
        read_type(r, op, w, n);
    } else if (op >= OP_CONSTANT && op <= OP_SPEC_CONSTANT_OP) {
        read_constant(r, op, w, n);
    } else if (op == OP_VARIABLE && w[3] == STORAGE_WORKGROUP) {
        r->shared += id_of(r, id_of(r, w[1])->target)->bytes;
    }
}

/* ---------------------------------------------------------------- checking */

bool qt_has_capability(const uint32_t *code, size_t n, uint64_t capability)
{
    for (size_t at = HEADER_WORDS; at + 1 < n && code[at] >> 16 > 0; at += code[at] >> 16)
        if ((code[at] & 0xffff) == OP_CAPABILITY && code[at + 1] == capability)
            return true;
    return false;
}

void qt_check_code(const struct qt_device *device, const uint32_t *code, size_t n,
                   const VkSpecializationInfo *special)
{
    if (n < HEADER_WORDS)
        return;
    struct reader r = {.device = device, .special = special, .n_ids = code[3], .size = {1, 1, 1}};
    r.ids = calloc(r.n_ids + (size_t)1, sizeof *r.ids);
    if (!r.ids)
        abort();
    for (size_t at = HEADER_WORDS; at < n;) {
        uint32_t length = code[at] >> 16;
        if (length == 0 || length > n - at)
            break;
        read_instruction(&r, code[at] & 0xffff, code + at, length);
        at += length;
    }
    free(r.ids);
    const VkPhysicalDeviceLimits *limits = &device->properties.limits;
    uint64_t all = (uint64_t)r.size[0] * r.size[1] * r.size[2];
    if (all > limits->maxComputeWorkGroupInvocations)
        qt_breach("a workgroup of %llu, at most %u", (unsigned long long)all,
                  limits->maxComputeWorkGroupInvocations);
    for (int i = 0; i < 3; i++)
        if (r.size[i] > limits->maxComputeWorkGroupSize[i])
            qt_breach("a workgroup of %u in dimension %d, at most %u", r.size[i], i,
                      limits->maxComputeWorkGroupSize[i]);
    if (r.shared > limits->maxComputeSharedMemorySize)
        qt_breach("a pipeline with %llu bytes of shared memory, at most %u", (unsigned long long)r.shared,
                  limits->maxComputeSharedMemorySize);
}
