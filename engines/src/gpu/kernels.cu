// What a GPU does around the network: the letterbox before it, the words after it.
//
// `scripts/make-kernels` compiles this file to kernels.ptx with NVRTC, without contraction to fused multiply-adds, so
// that the letterbox's sums are those of its twin on the processor to the last bit (`Resampler` in wordsight-detection).
// The tests compile it once more as C++ for the processor. Therefore: no headers, no warp intrinsics, and
// __syncthreads() only where all threads of a block come by.

// The structs have their like in letterbox.rs and ranking.rs, field by field.

// Where a frame has one channel, and which of its samples make each pixel.
struct Channel {
    int const* column_spans;      // [resized_width, 2]: the first sample of a pixel's, and how many
    float const* column_weights;  // [resized_width, column_stride]
    int const* row_spans;         // [resized_height, 2]
    float const* row_weights;     // [resized_height, row_stride]
    float* sums;                  // [resized_height, samples]: each column's, down the rows of a pixel
    int column_stride, row_stride;
    int offset, sample_bytes, row_bytes;
    int samples;                  // in a row
};

struct Letterbox {
    Channel channels[3];      // red, green, blue; or Y, U, V
    unsigned char const* frame;
    unsigned char* input;     // [3, input_height, input_width]
    float const* column_cover;  // [resized_width]: the share of a column that is frame and not padding
    float const* row_cover;     // [resized_height]
    int resized_width, resized_height, pad_x, pad_y, input_width, input_height;
    int padding[3];           // red, green, blue
    int is_yuv;
    // What makes RGB of YUV: (y - y_offset) * y_scale + red_v * (v - 128), and so on.
    float y_offset, y_scale, red_v, green_u, green_v, blue_u;
};

__device__ unsigned char to_byte(float value)
{
    value += 0.5f;
    return value <= 0.0f ? 0 : value >= 255.0f ? 255 : (unsigned char) value;
}

// The letterbox in two passes, the sums in the order of the twin: down each column of samples first, then along the row
// of these sums. A pixel of its own would sum up each column once for every pixel that the column is part of.
//
// A thread a column of samples, of a resized row and a channel.
extern "C" __global__ void letterbox_columns(Letterbox p)
{
    Channel const& channel = p.channels[blockIdx.z];
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (column >= channel.samples || row >= p.resized_height) return;
    int first = channel.row_spans[2 * row], rows = channel.row_spans[2 * row + 1];
    float const* weights = channel.row_weights + row * channel.row_stride;
    unsigned char const* at = p.frame + channel.offset + first * channel.row_bytes + column * channel.sample_bytes;
    float down = 0.0f;
    for (int j = 0; j < rows; ++j) down += weights[j] * (float) at[j * channel.row_bytes];
    channel.sums[row * channel.samples + column] = down;
}

__device__ float sample(Channel const& channel, int column, int row)
{
    int first = channel.column_spans[2 * column], columns = channel.column_spans[2 * column + 1];
    float const* weights = channel.column_weights + column * channel.column_stride;
    float const* sums = channel.sums + row * channel.samples + first;
    float along = 0.0f;
    for (int i = 0; i < columns; ++i) along += weights[i] * sums[i];
    return along;
}

// A thread a pixel of the input.
extern "C" __global__ void letterbox_rows(Letterbox p)
{
    int x = blockIdx.x * blockDim.x + threadIdx.x;
    int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= p.input_width || y >= p.input_height) return;
    int plane = p.input_width * p.input_height;
    unsigned char* out = p.input + y * p.input_width + x;
    int column = x - p.pad_x, row = y - p.pad_y;
    if (column < 0 || column >= p.resized_width || row < 0 || row >= p.resized_height) {
        for (int i = 0; i < 3; ++i) out[i * plane] = (unsigned char) p.padding[i];
        return;
    }
    float a = sample(p.channels[0], column, row);
    float b = sample(p.channels[1], column, row);
    float c = sample(p.channels[2], column, row);
    // 1 but where the frame ends within the pixel: the weights make less then, and the padding the rest.
    float cover = p.column_cover[column] * p.row_cover[row];
    if (p.is_yuv) {
        float luma = (a - cover * p.y_offset) * p.y_scale, u = b - cover * 128.0f, v = c - cover * 128.0f;
        a = luma + p.red_v * v;
        b = luma + (p.green_u * u + p.green_v * v);
        c = luma + p.blue_u * u;
    }
    out[0] = to_byte(a + (1.0f - cover) * (float) p.padding[0]);
    out[plane] = to_byte(b + (1.0f - cover) * (float) p.padding[1]);
    out[2 * plane] = to_byte(c + (1.0f - cover) * (float) p.padding[2]);
}

struct Similarities {
    float const* text;   // [regions, size]
    float const* image;  // [regions, size]; with a sigmoid none, and blocks of one head alone
    float const* words;  // [columns, size]: the background, then the words
    float* logits;       // [heads, regions, columns]: the text head's, then the image head's
    int regions, columns, size;
    float scale;         // 1 / temperature
};

// Blocks of 256 threads make tiles of 32 regions by 64 columns, of one head each; a thread makes 2 by 4 of a tile.
enum { TILE_REGIONS = 32, TILE_COLUMNS = 64, TILE_DEPTH = 16 };

extern "C" __global__ void similarities(Similarities p)
{
    __shared__ float left[TILE_DEPTH][TILE_REGIONS + 1];
    __shared__ float right[TILE_DEPTH][TILE_COLUMNS + 1];
    int thread = threadIdx.x;
    int first_region = blockIdx.y * TILE_REGIONS, first_column = blockIdx.x * TILE_COLUMNS;
    float const* embeddings = blockIdx.z == 0 ? p.text : p.image;
    int at_region = 2 * (thread / 16), at_column = thread % 16;
    float sums[2][4] = {};
    for (int depth = 0; depth < p.size; depth += TILE_DEPTH) {
        // 16 threads in a row read 16 neighbours of one embedding.
        int along = depth + thread % 16;
        for (int region = thread / 16; region < TILE_REGIONS; region += 16) {
            bool inside = first_region + region < p.regions && along < p.size;
            left[thread % 16][region] = inside ? embeddings[(first_region + region) * p.size + along] : 0.0f;
        }
        for (int column = thread / 16; column < TILE_COLUMNS; column += 16) {
            bool inside = first_column + column < p.columns && along < p.size;
            right[thread % 16][column] =
                inside ? p.words[(long long) (first_column + column) * p.size + along] : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < TILE_DEPTH; ++k)
            for (int i = 0; i < 2; ++i)
                for (int j = 0; j < 4; ++j) sums[i][j] += left[k][at_region + i] * right[k][at_column + 16 * j];
        __syncthreads();
    }
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) {
            int region = first_region + at_region + i, column = first_column + at_column + 16 * j;
            if (region < p.regions && column < p.columns)
                p.logits[((long long) blockIdx.z * p.regions + region) * p.columns + column] = p.scale * sums[i][j];
        }
}

struct Ranking {
    float const* logits;        // [heads, regions, columns]
    float const* objectness;    // [regions]
    float const* logit_shift;   // [regions], with a sigmoid; null with a softmax
    float const* logit_scale;   // [regions], the same
    float const* text_weights;  // [columns - 1]; NaN for a word that is in the sums and not ranked: no comparison holds
    float const* thresholds;    // [columns - 1]
    int* words;                 // [regions, words_per_region]; -1 where no word reaches its threshold
    float* scores;              // [regions, words_per_region]
    int regions, columns, words_per_region;
    float objectness_weight;
    float lowest_threshold;
};

enum { RANKING_THREADS = 256 };
constexpr float HUGE_NUMBER = 3.402823466e+38f;  // the largest float

__device__ float largest_of(float* shared, float mine)
{
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (int step = RANKING_THREADS / 2; step > 0; step /= 2) {
        if ((int) threadIdx.x < step) shared[threadIdx.x] = fmaxf(shared[threadIdx.x], shared[threadIdx.x + step]);
        __syncthreads();
    }
    float found = shared[0];
    __syncthreads();
    return found;
}

__device__ float sum_of(float* shared, float mine)
{
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (int step = RANKING_THREADS / 2; step > 0; step /= 2) {
        if ((int) threadIdx.x < step) shared[threadIdx.x] += shared[threadIdx.x + step];
        __syncthreads();
    }
    float found = shared[0];
    __syncthreads();
    return found;
}

// What log-softmax takes from each logit of a row.
__device__ float log_of_sum(float const* row, int count, float* shared)
{
    float largest = -HUGE_NUMBER, sum = 0.0f;
    for (int at = threadIdx.x; at < count; at += RANKING_THREADS) largest = fmaxf(largest, row[at]);
    largest = largest_of(shared, largest);
    for (int at = threadIdx.x; at < count; at += RANKING_THREADS) sum += expf(row[at] - largest);
    return largest + logf(sum_of(shared, sum));
}

// A block a region: log-softmax of both heads' rows, their weighted mean, the best words. Scores are those of `Scorer`.
extern "C" __global__ void rank(Ranking p)
{
    __shared__ float values[RANKING_THREADS];
    __shared__ int places[RANKING_THREADS];
    int region = blockIdx.x, words = p.columns - 1;
    int* out_words = p.words + region * p.words_per_region;
    float* out_scores = p.scores + region * p.words_per_region;
    float objectness = powf(p.objectness[region], p.objectness_weight);
    // A score is at most this. The whole block goes, or none of it; a NaN stays and reaches no threshold.
    if (objectness < p.lowest_threshold) {
        for (int at = threadIdx.x; at < p.words_per_region; at += RANKING_THREADS) out_words[at] = -1;
        return;
    }
    bool is_sigmoid = p.logit_scale != 0;
    float const* text = p.logits + (long long) region * p.columns;
    float const* image = is_sigmoid ? text + 1 : p.logits + (long long) (p.regions + region) * p.columns + 1;
    float text_shift = is_sigmoid ? 0.0f : log_of_sum(text, p.columns, values);
    float image_shift = is_sigmoid ? 0.0f : log_of_sum(image, words, values);
    text += 1;  // past the background

    // The best, then the best of what comes after it, and so on; equal ones in the order of their places.
    float last = HUGE_NUMBER;
    int last_place = -1;
    for (int at = 0; at < p.words_per_region; ++at) {
        float best = -HUGE_NUMBER;
        int best_place = words;
        for (int word = threadIdx.x; word < words; word += RANKING_THREADS) {
            float weight = p.text_weights[word];
            // With a sigmoid the weights are 1, and a region's words are in the order of their cosines.
            float log_p = weight * (text[word] - text_shift) + (1.0f - weight) * (image[word] - image_shift);
            float value = is_sigmoid ? log_p : (1.0f - p.objectness_weight) * log_p;
            bool after = value < last || (value == last && word > last_place);
            if (after && (value > best || (value == best && word < best_place))) {
                best = value;
                best_place = word;
            }
        }
        values[threadIdx.x] = best;
        places[threadIdx.x] = best_place;
        __syncthreads();
        for (int step = RANKING_THREADS / 2; step > 0; step /= 2) {
            if ((int) threadIdx.x < step) {
                float other = values[threadIdx.x + step];
                int other_place = places[threadIdx.x + step];
                if (other > values[threadIdx.x] ||
                    (other == values[threadIdx.x] && other_place < places[threadIdx.x])) {
                    values[threadIdx.x] = other;
                    places[threadIdx.x] = other_place;
                }
            }
            __syncthreads();
        }
        last = values[0];
        last_place = places[0];
        __syncthreads();
        if (threadIdx.x == 0) {
            float score = objectness;
            if (is_sigmoid) {
                float logit = p.logit_scale[region] * (last + p.logit_shift[region]);
                score *= powf(1.0f / (1.0f + expf(-logit)), 1.0f - p.objectness_weight);
            } else {
                score *= expf(last);
            }
            bool told = last_place < words && score >= p.thresholds[last_place];
            out_words[at] = told ? last_place : -1;
            out_scores[at] = score;
        }
    }
}
