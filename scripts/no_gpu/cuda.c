/* A fake CUDA driver that accepts every call and runs no kernel, and a fake NCCL that adds nothing. A build with `--features cuda`
 * runs completely on it without a GPU, but its numbers are meaningless. It shows which kernels a start compiles, how long that
 * takes, and when GPUs exchange gradients. run.sh documents its use.
 *
 * It reports the properties of an H100. Device memory is host memory. A simulated clock advances with every launch, so that loops
 * that time kernels end. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef int Result;
typedef unsigned long long Pointer;
typedef void *Handle;

enum { OK = 0, OUT_OF_MEMORY = 2, HANDLES = 1 << 22, GPUS = 8, MESSAGES = 1 << 16 };

static long modules, module_bytes, launches[GPUS], sent[GPUS];
static __thread int gpu;  /* the GPU whose context is current in this thread */
static uintptr_t handles;
static double started, clock_s[GPUS];
static double event_s[HANDLES];  /* when each event was recorded */
static int throughput[HANDLES];  /* launches + 1 of a kernel that measures throughput; 0 for other kernels */
static struct Kernel { char name[200]; long launches; } kernels[1 << 14];
static int kernel_count, kernel_of[HANDLES];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static Result new_handle(Handle *handle) {
    *handle = (Handle)(16 * __atomic_add_fetch(&handles, 1, __ATOMIC_RELAXED));
    return OK;
}

static size_t place(Handle handle) { return ((uintptr_t)handle / 16) % HANDLES; }

static int gpus(void) {
    const char *count = getenv("NO_GPU_COUNT");
    int asked = count ? atoi(count) : 1;
    return asked < 1 ? 1 : asked > GPUS ? GPUS : asked;
}

/* NO_GPU_LAUNCHES=FILE writes how often each kernel was launched. Kernels that share a name share a row. */
static void write_launches(void) {
    const char *path = getenv("NO_GPU_LAUNCHES");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "launches,kernel\n");
    for (int i = 0; i < kernel_count; i++) {
        for (int j = 0; j < i; j++)
            if (strcmp(kernels[i].name, kernels[j].name) == 0) {
                kernels[j].launches += kernels[i].launches;
                kernels[i].launches = 0;
            }
    }
    for (int i = 0; i < kernel_count; i++)
        if (kernels[i].launches) fprintf(file, "%ld,%s\n", kernels[i].launches, kernels[i].name);
    fclose(file);
}

/* NO_GPU_ERROR=FUNCTION:CODE makes one function fail, for example cuInit:100 (no device) or cuModuleLoadData:222 (driver too old). */
static Result failure(const char *function) {
    const char *asked = getenv("NO_GPU_ERROR");
    size_t length = strlen(function);
    return asked && strncmp(asked, function, length) == 0 && asked[length] == ':' ? atoi(asked + length + 1) : OK;
}

static void at_exit(void) {
    write_launches();
    fprintf(stderr, "[no GPU] %ld kernels, %.1f MB of PTX, %.1f s, launches and all-reduces of each GPU:", modules,
            module_bytes / 1e6, now() - started);
    for (int i = 0; i < gpus(); i++) fprintf(stderr, " %ld, %ld;", launches[i], sent[i]);
    fprintf(stderr, "\n");
    for (int i = 1; i < gpus(); i++)
        if (sent[i] != sent[0])
            fprintf(stderr, "[no GPU] GPU %d did %ld all-reduces, GPU 0 did %ld: real GPUs would hang\n", i, sent[i], sent[0]);
}

Result cuInit(unsigned flags) {
    if (failure("cuInit")) return failure("cuInit");
    if (started == 0) {
        started = now();
        atexit(at_exit);
    }
    return OK;
}
Result cuDriverGetVersion(int *version) { *version = 13000; return OK; }
Result cuGetErrorName(int error, const char **text) { *text = "error"; return OK; }
Result cuGetErrorString(int error, const char **text) {
    *text = error == 100   ? "no CUDA-capable device is detected"
            : error == 222 ? "the provided PTX was compiled with an unsupported toolchain"
                           : "error";
    return OK;
}

/* Device properties. */

Result cuDeviceGetCount(int *count) { *count = gpus(); return OK; }
Result cuDeviceGet(int *device, int index) { *device = index; return OK; }
Result cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "no GPU"); return OK; }
Result cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, device, 16); return OK; }
Result cuDeviceGetLuid(char *luid, unsigned *mask, int device) { memset(luid, 0, 8); *mask = 0; return OK; }
Result cuDeviceGetPCIBusId(char *id, int size, int device) { snprintf(id, size, "0000:%02x:00.0", device); return OK; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 80ull << 30; return OK; }
Result cuDeviceCanAccessPeer(int *can, int a, int b) { *can = 0; return OK; }

/* Values of CUdevice_attribute by number, as on an H100. All others are 0, because nothing asks for them. */
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    static const int known[][2] = {
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64},      /* threads per block, in total and along each axis */
        {5, 2147483647}, {6, 65535}, {7, 65535},       /* blocks along each axis */
        {8, 49152}, {9, 65536}, {10, 32}, {12, 65536}, /* shared and constant memory, warp, registers */
        {13, 1980000}, {16, 132}, {31, 1}, {36, 2619000}, {37, 5120}, {38, 52428800}, {39, 2048}, {40, 3}, {41, 1},
        {75, 9}, {76, 0},                              /* compute capability */
        {81, 233472}, {82, 65536}, {97, 232448}, {106, 32}, {115, 1}, {120, 1}, {127, 1},
    };
    *value = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i][0] == attribute) *value = known[i][1];
    return OK;
}

/* Contexts and streams. */

Result cuDevicePrimaryCtxRetain(Handle *context, int device) { *context = (Handle)(16 * (device + 1L)); return OK; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
Result cuCtxSetCurrent(Handle context) { gpu = context ? (uintptr_t)context / 16 - 1 : 0; return OK; }
Result cuCtxGetCurrent(Handle *context) { *context = (Handle)(16 * (gpu + 1L)); return OK; }
Result cuCtxSynchronize(void) { return OK; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = 0; *greatest = -5; return OK; }
Result cuStreamCreate(Handle *stream, unsigned flags) { return new_handle(stream); }
Result cuStreamCreateWithPriority(Handle *stream, unsigned flags, int priority) { return new_handle(stream); }
Result cuStreamDestroy_v2(Handle stream) { return OK; }
Result cuStreamSynchronize(Handle stream) { return OK; }
Result cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) { return OK; }

/* Memory is only reserved; the system provides a page when it is first touched. */

Result cuMemGetInfo_v2(size_t *available, size_t *total) { *available = 79ull << 30; *total = 80ull << 30; return OK; }
Result cuMemAlloc_v2(Pointer *pointer, size_t bytes) {
    void *memory = mmap(0, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *pointer = (Pointer)memory;
    return memory == MAP_FAILED ? OUT_OF_MEMORY : OK;
}
Result cuMemAllocAsync(Pointer *pointer, size_t bytes, Handle stream) { return cuMemAlloc_v2(pointer, bytes); }
Result cuMemFree_v2(Pointer pointer) { return OK; }
Result cuMemFreeAsync(Pointer pointer, Handle stream) { return OK; }
Result cuMemAllocHost_v2(void **pointer, size_t bytes) { *pointer = calloc(1, bytes); return *pointer ? OK : OUT_OF_MEMORY; }
Result cuMemFreeHost(void *pointer) { free(pointer); return OK; }
Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, Handle stream) {
    memcpy((void *)to, from, bytes);
    return OK;
}
/* The host reads zeros. What no kernel computed would often be NaN, and a NaN ends a run. */
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, Handle stream) {
    memset(to, 0, bytes);
    return OK;
}
Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, Handle stream) { return OK; }
Result cuMemsetD8Async(Pointer to, unsigned char value, size_t bytes, Handle stream) {
    memset((void *)to, value, bytes);
    return OK;
}

/* CUDA_MEMCPY2D; kind 1 is host memory. */
struct End { size_t x, y; int kind; void *host; Pointer device; void *array; size_t pitch; };
struct Copy { struct End from, to; size_t width, height; };
static char *begin(const struct End *end) {
    char *base = end->kind == 1 ? end->host : (char *)end->device;
    return base + end->y * end->pitch + end->x;
}
Result cuMemcpy2DAsync_v2(const struct Copy *copy, Handle stream) {
    for (size_t row = 0; row < copy->height; row++) {
        char *to = begin(&copy->to) + row * copy->to.pitch;
        if (copy->to.kind == 1) memset(to, 0, copy->width);
        else memcpy(to, begin(&copy->from) + row * copy->from.pitch, copy->width);
    }
    return OK;
}
Result cuTensorMapEncodeTiled(void) { return OK; }
Result cuTensorMapEncodeIm2col(void) { return OK; }

/* Kernels. NO_GPU_LOG logs each kernel when it is loaded, and whether it uses TF32. */

Result cuModuleLoadData(Handle *module, const char *ptx) {
    if (failure("cuModuleLoadData")) return failure("cuModuleLoadData");
    __atomic_add_fetch(&modules, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&module_bytes, strlen(ptx), __ATOMIC_RELAXED);
    if (getenv("NO_GPU_LOG")) {
        const char *entry = strstr(ptx, ".entry ");
        int length = entry ? (int)strcspn(entry += 7, "(\n") : 0;
        fprintf(stderr, "[no GPU] %7.2f s %7zu bytes %.*s%s\n", now() - started, strlen(ptx), length, entry ? entry : "",
                strstr(ptx, "tf32") ? " TF32" : "");
    }
    return new_handle(module);
}
Result cuModuleUnload(Handle module) { return OK; }
Result cuModuleGetFunction(Handle *function, Handle module, const char *name) {
    new_handle(function);
    throughput[place(*function)] = strstr(name, "throughput") != NULL;
    int kernel = __atomic_fetch_add(&kernel_count, 1, __ATOMIC_RELAXED);
    snprintf(kernels[kernel].name, sizeof kernels->name, "%s", name);
    kernel_of[place(*function)] = kernel;
    return OK;
}
Result cuFuncSetAttribute(Handle function, int attribute, int value) { return OK; }
Result cuFuncGetAttribute(int *value, int attribute, Handle function) { *value = 32; return OK; }

/* A launch takes 20 microseconds of simulated time. Throughput kernels are an exception: the program gives them more work until they
 * take 20 ms, in simulated or wall time. So each launch of one takes longer in simulated time, and sleeps 20 ms. */
static Result launch(Handle function) {
    int *count = &throughput[place(function)];
    launches[gpu]++;
    __atomic_add_fetch(&kernels[kernel_of[place(function)]].launches, 1, __ATOMIC_RELAXED);
    clock_s[gpu] += *count ? 1e-5 * (1 << (*count < 14 ? *count : 14)) : 2e-5;
    *count += *count != 0;
    if (*count) {
        usleep(20000);
    }
    return OK;
}
Result cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, Handle stream, void **parameters, void **extra) {
    return launch(function);
}
Result cuLaunchKernelEx(const void *config, Handle function, void **parameters, void **extra) { return launch(function); }

/* Events. */

Result cuEventCreate(Handle *event, unsigned flags) { return new_handle(event); }
Result cuEventRecord(Handle event, Handle stream) { event_s[place(event)] = clock_s[gpu]; return OK; }
Result cuEventSynchronize(Handle event) { return OK; }
Result cuEventQuery(Handle event) { return OK; }
Result cuEventElapsedTime_v2(float *ms, Handle from, Handle to) {
    *ms = 1e3 * (event_s[place(to)] - event_s[place(from)]) + 1e-3;
    return OK;
}
Result cuEventElapsedTime(float *ms, Handle from, Handle to) { return cuEventElapsedTime_v2(ms, from, to); }
Result cuEventDestroy_v2(Handle event) { return OK; }

/* NCCL. Ranks wait for each other in ncclCommInitRank, as in the real NCCL. The fake NCCL checks that all GPUs reduce buffers of the
 * same lengths in the same order; otherwise the real one would hang or add unrelated values. NO_GPU_LOG logs each all-reduce, with
 * the number of kernels launched before it on that GPU. */

typedef struct { char bytes[128]; } Id;
static pthread_mutex_t joining = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t joined = PTHREAD_COND_INITIALIZER;
static int members;
static size_t lengths[MESSAGES];

Result ncclGetVersion(int *version) { *version = 22000; return OK; }
const char *ncclGetErrorString(int error) { return "error"; }
Result ncclGetUniqueId(Id *id) { memset(id, 0, sizeof *id); return OK; }
Result ncclCommInitRank(Handle *comm, int ranks, Id id, int rank) {
    pthread_mutex_lock(&joining);
    int all = (members++ / ranks + 1) * ranks;
    pthread_cond_broadcast(&joined);
    while (members < all) pthread_cond_wait(&joined, &joining);
    pthread_mutex_unlock(&joining);
    *comm = (Handle)(rank + 1L);
    return OK;
}
Result ncclCommDestroy(Handle comm) { return OK; }
Result ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, Handle comm, Handle stream) {
    pthread_mutex_lock(&joining);
    long message = sent[gpu]++;
    if (message < MESSAGES) {
        if (lengths[message] && lengths[message] != count) {
            fprintf(stderr, "[no GPU] size mismatch: GPU %d has %zu values in all-reduce %ld, another GPU has %zu\n", gpu, count,
                    message, lengths[message]);
            abort();
        }
        lengths[message] = count;
    }
    if (getenv("NO_GPU_LOG"))
        fprintf(stderr, "[no GPU] %7.2f s GPU %d reduces %zu values after %ld launches\n", now() - started, gpu, count,
                launches[gpu]);
    pthread_mutex_unlock(&joining);
    return OK;
}
