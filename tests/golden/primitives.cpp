// Section "primitives": choosing parameters, quantizing, dequantizing, fake-quantizing.
#include "tests/golden/sections.h"

namespace aoq::golden {

const Section kPrimitives{"primitives", {}, "quantize and dequantize on tensors are not built yet"};

}  // namespace aoq::golden
