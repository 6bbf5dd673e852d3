foreach(name compose connfile msg pack replay scan session)
  rh_unit_test(wire ${name} base)
endforeach()
include(${CMAKE_SOURCE_DIR}/tests/fuzz/replay.cmake)
rh_unit_test(wire golden base)
target_compile_definitions(wire_golden_test
  PRIVATE GOLDEN="${CMAKE_CURRENT_LIST_DIR}/golden")
