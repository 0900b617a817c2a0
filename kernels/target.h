// How one source compiles for the CPU, for CUDA and for the emulator.
#pragma once

#if defined(__CUDACC__)
#define AMALGAM_BODY __host__ __device__ __forceinline__
#else
#define AMALGAM_BODY inline __attribute__((always_inline))
#endif

// nvcc compiles a source once for the device and once for the host.
#if defined(__CUDA_ARCH__)
#define AMALGAM_LANES _Pragma("unroll")
#define AMALGAM_UNROLL _Pragma("unroll")  // what is indexed in the loop must stay in registers
#else
#define AMALGAM_LANES _Pragma("omp simd")  // needs -fopenmp-simd, no OpenMP runtime
#define AMALGAM_UNROLL
#endif
