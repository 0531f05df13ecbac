"""The part of the TFLite schema that the reader needs: op names, option tables, types, in schema order."""

from __future__ import annotations

from collections.abc import Mapping

_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP
FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX
SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD
UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE
UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX
DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER
GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL
LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND
LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE
RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N
GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF
WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL
GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM
ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD
STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP
STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER
STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER
STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD
STABLEHLO_IOTA STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE
STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE
STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
"""
BUILTINS = tuple(_NAMES.split())

TYPES: Mapping[int, str] = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16",
    9: "int8", 10: "float64", 12: "uint64", 13: "resource", 15: "uint32", 16: "uint16", 17: "int4",
}  # fmt: skip
# Types that are not read; a tensor of such a type is refused by name.
OTHER_TYPES: Mapping[int, str] = {
    5: "string", 8: "complex64", 11: "complex128", 14: "variant", 18: "bfloat16",
    19: "int2", 20: "uint4", 21: "float8_e4m3fn", 22: "float8_e5m2",
}  # fmt: skip

ENUMS: Mapping[str, tuple[str, ...]] = {
    "padding": ("SAME", "VALID"),
    "activation": ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT"),
    "mirror": ("REFLECT", "SYMMETRIC"),
    "weights_format": ("DEFAULT", "SHUFFLED4X16INT8"),
}

# Options table number → fields "slot:name:type:default". Types: i32, u32, bool, f32, i32s (a vector), text,
# or an enum.
_CONV_TAIL = "1:stride_w:i32:0 2:stride_h:i32:0"
OPTIONS: Mapping[int, str] = {
    1: f"0:padding:padding:0 {_CONV_TAIL} 3:fused_activation_function:activation:0"
    " 4:dilation_w_factor:i32:1 5:dilation_h_factor:i32:1",
    2: f"0:padding:padding:0 {_CONV_TAIL} 3:depth_multiplier:i32:0 4:fused_activation_function:activation:0"
    " 5:dilation_w_factor:i32:1 6:dilation_h_factor:i32:1",
    5: f"0:padding:padding:0 {_CONV_TAIL} 3:filter_width:i32:0 4:filter_height:i32:0"
    " 5:fused_activation_function:activation:0",
    6: "0:rank:i32:0 1:fused_activation_function:activation:0",
    8: "0:fused_activation_function:activation:0 1:weights_format:weights_format:0 2:keep_num_dims:bool:0",
    9: "0:beta:f32:0",
    10: "0:axis:i32:0 1:fused_activation_function:activation:0",
    11: "0:fused_activation_function:activation:0 1:pot_scale_int16:bool:1",
    12: "0:fused_activation_function:activation:0",
    15: "2:align_corners:bool:0 3:half_pixel_centers:bool:0",
    16: "0:subgraph:u32:0",
    17: "0:new_shape:i32s:0",
    19: "0:block_size:i32:0",
    21: "0:fused_activation_function:activation:0",
    23: "0:axis:i32:0 1:batch_dims:i32:0",
    27: "0:keep_dims:bool:0",
    28: "0:fused_activation_function:activation:0 1:pot_scale_int16:bool:1",
    29: "0:fused_activation_function:activation:0",
    30: "0:squeeze_dims:i32s:0",
    32: "0:begin_mask:i32:0 1:end_mask:i32:0 2:ellipsis_mask:i32:0 3:new_axis_mask:i32:0"
    " 4:shrink_axis_mask:i32:0 5:offset:bool:0",
    35: "0:num_splits:i32:0",
    37: "0:in_data_type:i8:0 1:out_data_type:i8:0",
    40: "0:output_type:i8:0",
    49: f"0:padding:padding:0 {_CONV_TAIL} 3:fused_activation_function:activation:0",
    57: "0:output_type:i8:0",
    59: "0:values_count:i32:0 1:axis:i32:0",
    61: "0:axis:i32:0",
    64: "0:num:i32:0 1:axis:i32:0",
    71: "0:fused_activation_function:activation:0 1:cell_clip:f32:0 2:proj_clip:f32:0 3:time_major:bool:0",
    74: "0:align_corners:bool:0 1:half_pixel_centers:bool:0",
    75: "0:alpha:f32:0",
    77: "0:mode:mirror:0",
    79: "0:num_splits:i32:0",
    87: "0:seq_dim:i32:0 1:batch_dim:i32:0",
    92: "0:then_subgraph_index:i32:0 1:else_subgraph_index:i32:0",
    93: "0:cond_subgraph_index:i32:0 1:body_subgraph_index:i32:0",
    94: "0:block_size:i32:0",
    101: "0:adj_x:bool:0 1:adj_y:bool:0",
    102: "0:exclusive:bool:0 1:reverse:bool:0",
    103: "0:init_subgraph_index:i32:0",
    111: "0:container:text:0 1:shared_name:text:0",
    116: "0:approximate:bool:0",
}

# Options table of each op that has one above; the file must carry this table or none.
TABLES: Mapping[str, int] = {
    "CONV_2D": 1, "DEPTHWISE_CONV_2D": 2, "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5, "L2_POOL_2D": 5,
    "SVDF": 6, "FULLY_CONNECTED": 8, "SOFTMAX": 9, "CONCATENATION": 10, "ADD": 11, "L2_NORMALIZATION": 12,
    "RESIZE_BILINEAR": 15, "RESHAPE": 17, "SPACE_TO_DEPTH": 19, "MUL": 21, "GATHER": 23, "MEAN": 27,
    "SUM": 27, "REDUCE_MAX": 27, "REDUCE_MIN": 27, "REDUCE_PROD": 27, "REDUCE_ANY": 27, "REDUCE_ALL": 27,
    "SUB": 28, "DIV": 29, "SQUEEZE": 30, "STRIDED_SLICE": 32, "SPLIT": 35, "CAST": 37, "ARG_MAX": 40,
    "TRANSPOSE_CONV": 49, "ARG_MIN": 57, "PACK": 59, "ONE_HOT": 61, "UNPACK": 64,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 71, "RESIZE_NEAREST_NEIGHBOR": 74, "LEAKY_RELU": 75, "MIRROR_PAD": 77,
    "SPLIT_V": 79, "REVERSE_SEQUENCE": 87, "DEPTH_TO_SPACE": 94, "BATCH_MATMUL": 101, "CUMSUM": 102,
    "CALL": 16, "IF": 92, "WHILE": 93, "CALL_ONCE": 103, "VAR_HANDLE": 111,
    "GELU": 116,
}  # fmt: skip

# The inputs that an op has at most; those that are not listed take any number, or their op counts them.
INPUTS: Mapping[str, int] = {
    op: count
    for count, ops in (
        (
            1,
            "ABS AVERAGE_POOL_2D CAST CEIL COS DEPTH_TO_SPACE DEQUANTIZE ELU EXP FLOOR GELU HARD_SWISH "
            "L2_NORMALIZATION LEAKY_RELU LOG LOGICAL_NOT LOGISTIC LOG_SOFTMAX MAX_POOL_2D NEG QUANTIZE RANK "
            "READ_VARIABLE RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SHAPE SIGN SIN SOFTMAX "
            "SPACE_TO_DEPTH SQRT SQUARE SQUEEZE TANH UNPACK ZEROS_LIKE",
        ),
        (
            2,
            "ADD ARG_MAX ARG_MIN ASSIGN_VARIABLE BATCH_MATMUL BROADCAST_ARGS BROADCAST_TO CUMSUM DIV "
            "EMBEDDING_LOOKUP EQUAL EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD GATHER GATHER_ND GREATER "
            "GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR MAXIMUM MEAN MINIMUM MIRROR_PAD MUL "
            "NOT_EQUAL PAD POW PRELU REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RESHAPE "
            "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 SPLIT SQUARED_DIFFERENCE "
            "SUB SUM TILE TOPK_V2 TRANSPOSE",
        ),
        (
            3,
            "BATCH_TO_SPACE_ND CONV_2D DEPTHWISE_CONV_2D DYNAMIC_UPDATE_SLICE FULLY_CONNECTED PADV2 RANGE "
            "SELECT SELECT_V2 SLICE SPACE_TO_BATCH_ND SPLIT_V",
        ),
        (4, "ONE_HOT STRIDED_SLICE TRANSPOSE_CONV"),
        (5, "SVDF"),
        (24, "UNIDIRECTIONAL_SEQUENCE_LSTM"),
    )
    for op in ops.split()
}
