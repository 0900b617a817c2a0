// Rows of logits, a tile of the vocabulary at a time: the likeliest token, the sum of the softmax, the target's logit.
#include "kernels/cuda/decoder.h"
#include "kernels/cuda/decoder_block.cuh"
#include "kernels/elementary.h"
#include "kernels/vector_math.h"

namespace amalgam::cuda {

namespace {

/// A logit and where it stands.
struct Peak {
    float value;
    int32_t place;
};

/// The larger one, of equal ones the first.
struct Larger {
    __device__ Peak operator()(Peak a, Peak b) const {
        return b.value > a.value || (b.value == a.value && b.place < a.place) ? b : a;
    }
};

/// Later tiles win only if they are larger.
__device__ void take_tile(LogitState& state, int64_t first, const Peak& peak, double sum) {
    if (!is_finite(sum)) {
        state.sum = double_of(canonical_nan_bits<double>);
    } else if (double(peak.value) > state.largest) {
        state.sum = state.sum * exact_exp(state.largest - double(peak.value)) + sum;
        state.largest = double(peak.value);
        state.best = first + peak.place;
    } else {
        state.sum += sum * exact_exp(double(peak.value) - state.largest);
    }
}

__global__ void __launch_bounds__(row_threads) judge_kernel(float* logits, int64_t rows, int64_t first, int count,
                                                            float cap, const int32_t* targets, LogitState* states) {
    AMALGAM_SHARED(Peak, peaks, row_threads);
    AMALGAM_SHARED(Peak, peak_columns, row_columns);
    AMALGAM_SHARED(double, sums, row_threads);
    AMALGAM_SHARED(double, sum_columns, row_columns);
    const float infinity = float_of(infinity_bits<float>);
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        float* own = logits + row * count;
        Peak peak{-infinity, count};
        for (int i = int(threadIdx.x); i < count; i += row_threads) {
            float value = own[i];
            if (cap > 0) own[i] = value = cap * vector_tanh(value / cap);
            peak = Larger()(peak, Peak{value, i});
        }
        peak = combined(peak, peaks, peak_columns, Larger());
        // Each thread reads what it wrote itself. A NaN, or a largest logit that is infinite, makes the sum a NaN.
        double sum = 0;
        for (int i = int(threadIdx.x); i < count; i += row_threads) sum += double(vector_exp(own[i] - peak.value));
        sum = combined(sum, sums, sum_columns, Plus<double>());
        if (threadIdx.x == 0) {
            LogitState state{-double(infinity), 0, 0, 0};
            if (first > 0) state = states[row];
            take_tile(state, first, peak, sum);
            const int64_t place = targets ? targets[row] - first : -1;
            if (place >= 0 && place < count) state.target = double(own[place]);
            states[row] = state;
        }
    }
}

}  // namespace

int judge_logits(const Queue& queue, float* logits, int64_t rows, int64_t first, int64_t count, float cap,
                 const int32_t* targets, LogitState* states) {
    return launch_cooperative_block(queue, blocks_for(queue, rows, 1), row_threads, judge_kernel, logits, rows, first,
                                    int(count), cap, targets, states);
}

}  // namespace amalgam::cuda
