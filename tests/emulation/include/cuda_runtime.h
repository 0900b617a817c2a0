// Stands in for CUDA C++ on machines without a GPU: kernels are host functions that cudaLaunchKernelEx queues.
//
// A launch whose blocks synchronise says so by a launch attribute that CUDA ignores and the stand-in reads:
//
//     cudaLaunchAttribute attribute{};
//     attribute.id = cudaLaunchAttributeIgnore;
//     attribute.val.cooperative = 1;
//     config.attrs = &attribute;
//     config.numAttrs = 1;
//
// Its threads then run as fibers, so that __syncthreads() works. In launches without it a block is a loop over threads, and
// __syncthreads() ends the program with a message.
//
// Shared memory is declared through a macro, which sources define for nvcc as `__shared__ type name[count]`:
//
//     AMALGAM_SHARED(double, lanes, 256);  // within a kernel or a device function that every thread of the block enters
//
// Vector loads are those of uint2, uint4, float4, double2 and the like: their copies check the alignment.
#pragma once
#include <atomic>
#include <functional>
#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"

struct dim3 {
    unsigned int x = 1, y = 1, z = 1;
    constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 {
    unsigned int x, y, z;
};

enum cudaLaunchAttributeID {
    cudaLaunchAttributeIgnore = 0,
    cudaLaunchAttributeCooperative = 2,
    cudaLaunchAttributePriority = 8
};
union cudaLaunchAttributeValue {
    char pad[64];
    int cooperative;
    int priority;
};
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    char pad[8 - sizeof(cudaLaunchAttributeID)];
    cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
    dim3 gridDim;
    dim3 blockDim;
    size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
    cudaLaunchAttribute* attrs = nullptr;
    unsigned int numAttrs = 0;
};

inline constinit thread_local uint3 threadIdx{0, 0, 0};
inline constinit thread_local uint3 blockIdx{0, 0, 0};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};
constexpr int warpSize = 32;

namespace amalgam::emulation {

/// Ends the program: an error of the kind that has no error code on hardware, or a delayed one.
[[noreturn]] void die(const char* format, ...) __attribute__((format(printf, 1, 2)));

/// Queues a launch; `thread` runs one thread of it. `parameters` are the kernel's, side by side in `parameter_bytes`.
cudaError_t queue_launch(const cudaLaunchConfig_t& config, size_t parameter_bytes, std::function<void()> thread);
/// Ends the program if one of the 8-byte words of a kernel's parameter is an address of this process that no GPU reaches, or
/// lies on another device than `stream`.
void check_parameter(const void* parameter, size_t bytes, cudaStream_t stream);
/// The same without what lies between the members, which may hold anything.
template <class T>
void check_value(T value, cudaStream_t stream) {
#if defined(__GNUC__) && !defined(__clang__)
    __builtin_clear_padding(&value);
#endif
    check_parameter(&value, sizeof(value), stream);
}

/// The calling thread's block has one shared array for each `declaration`, poisoned when the block begins.
void* shared_memory(const void* declaration, size_t bytes);

/// Whatever the compiler believes about alignment.
inline void check_alignment(const void* memory, size_t alignment) {
    auto address = reinterpret_cast<uintptr_t>(memory);
    asm("" : "+r"(address));
    if (address % alignment) die("vector access of %zu bytes at %p, which is not aligned to them", alignment, memory);
}

template <class T, int N>
struct VectorBase;
template <class T>
struct VectorBase<T, 2> {
    T x, y;
};
template <class T>
struct VectorBase<T, 4> {
    T x, y, z, w;
};

/// A vector type of CUDA. Reading or writing one through a pointer checks the pointer.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector : VectorBase<T, N> {
    using Base = VectorBase<T, N>;
    Vector() = default;
    template <class... Parts>
    requires(sizeof...(Parts) == N) constexpr Vector(Parts... parts) : Base{static_cast<T>(parts)...} {}
    Vector(const Vector& other) : Base(checked(other)) {}
    Vector& operator=(const Vector& other) {
        check_alignment(this, alignof(Vector));
        Base::operator=(checked(other));
        return *this;
    }

  private:
    static const Base& checked(const Vector& other) {
        check_alignment(&other, alignof(Vector));
        return other;
    }
};

}  // namespace amalgam::emulation

#define AMALGAM_EMULATED_VECTOR(type, name, count)        \
    using name = amalgam::emulation::Vector<type, count>; \
    template <class... Parts>                             \
    constexpr name make_##name(Parts... parts) {          \
        return name(parts...);                            \
    }
AMALGAM_EMULATED_VECTOR(int, int2, 2)
AMALGAM_EMULATED_VECTOR(int, int4, 4)
AMALGAM_EMULATED_VECTOR(unsigned int, uint2, 2)
AMALGAM_EMULATED_VECTOR(unsigned int, uint4, 4)
AMALGAM_EMULATED_VECTOR(float, float2, 2)
AMALGAM_EMULATED_VECTOR(float, float4, 4)
AMALGAM_EMULATED_VECTOR(double, double2, 2)
AMALGAM_EMULATED_VECTOR(long long, longlong2, 2)
AMALGAM_EMULATED_VECTOR(unsigned long long, ulonglong2, 2)
#undef AMALGAM_EMULATED_VECTOR

#define AMALGAM_SHARED(type, name, count)     \
    static const char name##_declaration = 0; \
    auto& name =                              \
        *static_cast<type(*)[count]>(amalgam::emulation::shared_memory(&name##_declaration, sizeof(type) * (count)))

void __syncthreads();

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> amount) {
    return std::atomic_ref<T>(*address).fetch_add(amount, std::memory_order_relaxed);
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
    std::atomic_ref<T> target(*address);
    T seen = target.load(std::memory_order_relaxed);
    while (seen < value && !target.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
    }
    return seen;
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments));
    static_assert((std::is_trivially_copyable_v<std::remove_cvref_t<Parameters>> && ...),
                  "kernel parameters travel as bytes");
    static_assert((!std::is_reference_v<Parameters> && ...), "a kernel takes its parameters by value");
    const auto bound = [kernel, ... values = Parameters(std::forward<Arguments>(arguments))]() { kernel(values...); };
    (amalgam::emulation::check_value(arguments, config->stream), ...);
    return amalgam::emulation::queue_launch(*config, (sizeof(Parameters) + ... + size_t{0}), bound);
}
