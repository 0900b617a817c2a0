// How one source compiles for the CPU, for CUDA and for the emulator.
#pragma once

#if defined(__CUDACC__)
#define AMALGAM_BODY __host__ __device__ __forceinline__
#define AMALGAM_LANES _Pragma("unroll")
#else
#define AMALGAM_BODY inline __attribute__((always_inline))
#define AMALGAM_LANES _Pragma("omp simd")  // needs -fopenmp-simd, no OpenMP runtime
#endif
