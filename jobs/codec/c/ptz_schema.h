/* TensorFlow Lite's schema as version 1 knows it; made by tests/support/tflite_schema.py. */
#ifndef PTZ_SCHEMA_H
#define PTZ_SCHEMA_H
#include <stdint.h>

#define PTZ_TABLES 170
#define PTZ_MODEL 0
#define PTZ_TENSOR 11
#define PTZ_BUFFER 164
#define PTZ_QUANTIZATIONPARAMETERS 4

static const char *const ptz_fields[PTZ_TABLES] = {
    "i v159 v163 s v164 I v167 v169 v165 v166", /* Model */
    "B", /* CustomQuantization */
    "i i i I", /* BlockwiseQuantization */
    "i i i I", /* MultiAxisQuantization */
    "F F F L b u2 i", /* QuantizationParameters */
    "I", /* Int32Vector */
    "H", /* Uint16Vector */
    "B", /* Uint8Vector */
    "b i b u3 b u3", /* DimensionMetadata */
    "I I v8", /* SparsityParameters */
    "I b b", /* VariantSubType */
    "I b i s t4 b t9 I b v10 i", /* Tensor */
    "L L L l L b", /* StablehloGatherOptions */
    "L", /* StablehloTransposeOptions */
    "L L L L I", /* StablehloDotGeneralOptions */
    "L L L L L i", /* StablehloReduceWindowOptions */
    "i i", /* StablehloWhileOptions */
    "l b i", /* StablehloSortOptions */
    "l", /* StablehloConcatenateOptions */
    "L", /* StablehloBroadcastInDimOptions */
    "i i", /* StablehloCompareOptions */
    "L", /* StablehloDynamicSliceOptions */
    "L L L", /* StablehloPadOptions */
    "l", /* StablehloIotaOptions */
    "s b s i I B", /* StablehloCustomCallOptions */
    "L i", /* StablehloReduceOptions */
    "L L L", /* StablehloSliceOptions */
    "L L L L B l l L l l L l l L l l I", /* StablehloConvolutionOptions */
    "b L L L l b i", /* StablehloScatterOptions */
    "I", /* StablehloCaseOptions */
    "b", /* StablehloRngBitGeneratorOptions */
    "b i i b i i b", /* Conv2DOptions */
    "b i i i b i i i", /* Conv3DOptions */
    "b i i i i b", /* Pool2DOptions */
    "b i i i b i i", /* DepthwiseConv2DOptions */
    "i I I", /* ConcatEmbeddingsOptions */
    "b", /* LSHProjectionOptions */
    "i b b", /* SVDFOptions */
    "b b", /* RNNOptions */
    "b b b", /* SequenceRNNOptions */
    "b b b b", /* BidirectionalSequenceRNNOptions */
    "b b b b b B", /* FullyConnectedOptions */
    "f", /* SoftmaxOptions */
    "i b", /* ConcatenationOptions */
    "b b", /* AddOptions */
    "b", /* MulOptions */
    "b", /* L2NormOptions */
    "i f f f", /* LocalResponseNormalizationOptions */
    "b f f b b", /* LSTMOptions */
    "b f f b b b", /* UnidirectionalSequenceLSTMOptions */
    "b f f b b b", /* BidirectionalSequenceLSTMOptions */
    "- - b b", /* ResizeBilinearOptions */
    "b b", /* ResizeNearestNeighborOptions */
    "i", /* CallOptions */
    "", /* PadOptions */
    "", /* PadV2Options */
    "I", /* ReshapeOptions */
    "", /* SpaceToBatchNDOptions */
    "", /* BatchToSpaceNDOptions */
    "i i b", /* SkipGramOptions */
    "i", /* SpaceToDepthOptions */
    "i", /* DepthToSpaceOptions */
    "b b", /* SubOptions */
    "b", /* DivOptions */
    "", /* TopKV2Options */
    "b", /* EmbeddingLookupSparseOptions */
    "i i", /* GatherOptions */
    "", /* TransposeOptions */
    "", /* ExpOptions */
    "", /* CosOptions */
    "b", /* ReducerOptions */
    "I", /* SqueezeOptions */
    "i", /* SplitOptions */
    "i", /* SplitVOptions */
    "i i i i i b", /* StridedSliceOptions */
    "", /* LogSoftmaxOptions */
    "b b", /* CastOptions */
    "", /* DequantizeOptions */
    "", /* MaximumMinimumOptions */
    "", /* TileOptions */
    "b", /* ArgMaxOptions */
    "b", /* ArgMinOptions */
    "", /* GreaterOptions */
    "", /* GreaterEqualOptions */
    "", /* LessOptions */
    "", /* LessEqualOptions */
    "", /* NegOptions */
    "", /* SelectOptions */
    "", /* SliceOptions */
    "b i i b b", /* TransposeConvOptions */
    "", /* ExpandDimsOptions */
    "b", /* SparseToDenseOptions */
    "", /* EqualOptions */
    "", /* NotEqualOptions */
    "b", /* ShapeOptions */
    "", /* RankOptions */
    "", /* PowOptions */
    "f f i b", /* FakeQuantOptions */
    "i i", /* PackOptions */
    "", /* LogicalOrOptions */
    "i", /* OneHotOptions */
    "", /* AbsOptions */
    "", /* HardSwishOptions */
    "", /* LogicalAndOptions */
    "", /* LogicalNotOptions */
    "i i", /* UnpackOptions */
    "", /* FloorDivOptions */
    "", /* SquareOptions */
    "", /* ZerosLikeOptions */
    "", /* FillOptions */
    "", /* FloorModOptions */
    "", /* RangeOptions */
    "f", /* LeakyReluOptions */
    "", /* SquaredDifferenceOptions */
    "b", /* MirrorPadOptions */
    "b", /* UniqueOptions */
    "", /* ReverseV2Options */
    "", /* AddNOptions */
    "", /* GatherNdOptions */
    "", /* WhereOptions */
    "i i", /* ReverseSequenceOptions */
    "", /* MatrixDiagOptions */
    "", /* QuantizeOptions */
    "", /* MatrixSetDiagOptions */
    "i i", /* IfOptions */
    "i", /* CallOnceOptions */
    "i i", /* WhileOptions */
    "", /* NonMaxSuppressionV4Options */
    "", /* NonMaxSuppressionV5Options */
    "", /* ScatterNdOptions */
    "", /* SelectV2Options */
    "", /* DensifyOptions */
    "", /* SegmentSumOptions */
    "b b b", /* BatchMatMulOptions */
    "b b", /* CumsumOptions */
    "", /* BroadcastToOptions */
    "", /* Rfft2dOptions */
    "i b b", /* HashtableOptions */
    "", /* HashtableFindOptions */
    "", /* HashtableImportOptions */
    "", /* HashtableSizeOptions */
    "s s", /* VarHandleOptions */
    "", /* ReadVariableOptions */
    "", /* AssignVariableOptions */
    "l l", /* RandomOptions */
    "F", /* BucketizeOptions */
    "b", /* GeluOptions */
    "", /* DynamicUpdateSliceOptions */
    "", /* UnsortedSegmentProdOptions */
    "", /* UnsortedSegmentMaxOptions */
    "", /* UnsortedSegmentSumOptions */
    "", /* ATan2Options */
    "", /* UnsortedSegmentMinOptions */
    "", /* SignOptions */
    "", /* BitcastOptions */
    "", /* BitwiseXorOptions */
    "", /* RightShiftOptions */
    "", /* DilateOptions */
    "i", /* ReduceWindowOptions */
    "b s i i", /* OperatorCode */
    "s i B b i", /* StableHLOCompositeOptions */
    "", /* StablehloShiftLeftOptions */
    "i I I b u0 B b B I l l b u1 i", /* Operator */
    "v11 I I v162 s i", /* SubGraph */
    "B l l", /* Buffer */
    "s", /* ExternalBufferGroup */
    "i i l l s", /* ExternalBuffer */
    "s i", /* Metadata */
    "s i", /* TensorMap */
    "v168 v168 s - i", /* SignatureDef */
};
static const uint8_t ptz_union_0[] = { /* BuiltinOptions */
        255, 31, 34, 35, 36, 33, 37, 38, 41, 42, 43, 44, 46, 47, 48, 51, 53, 56, 59, 60,
        65, 45, 54, 66, 58, 57, 67, 70, 62, 63, 71, 39, 74, 68, 64, 72, 75, 76, 77, 78,
        80, 84, 86, 55, 82, 83, 85, 87, 88, 89, 91, 79, 90, 92, 93, 94, 96, 81, 97, 98,
        99, 100, 103, 104, 105, 106, 107, 108, 109, 50, 40, 49, 110, 111, 52, 112, 113, 114, 101, 73,
        115, 116, 117, 118, 69, 119, 95, 120, 121, 122, 123, 102, 124, 126, 61, 127, 128, 129, 130, 131,
        132, 133, 134, 125, 135, 136, 32, 137, 138, 139, 140, 141, 142, 143, 144, 145, 146, 147, 148, 149,
        152, 150, 151, 153, 154, 155, 156,
};
static const uint8_t ptz_union_1[] = { /* BuiltinOptions2 */
        255, 18, 19, 26, 27, 24, 25, 28, 20, 21, 22, 23, 14, 15, 17, 16, 12, 13, 157, 30,
        158, 160, 161, 29,
};
static const uint8_t ptz_union_2[] = { /* QuantizationDetails */
        255, 1, 2, 3,
};
static const uint8_t ptz_union_3[] = { /* SparseIndexVector */
        255, 5, 6, 7,
};
static const uint8_t *const ptz_unions[4] = {ptz_union_0, ptz_union_1, ptz_union_2, ptz_union_3};
static const uint8_t ptz_union_sizes[4] = {sizeof ptz_union_0, sizeof ptz_union_1, sizeof ptz_union_2,
                                           sizeof ptz_union_3};
#endif
