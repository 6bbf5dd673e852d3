foreach(name compose connfile msg pack replay scan session)
  rh_unit_test(wire ${name} base)
endforeach()
include(${CMAKE_SOURCE_DIR}/tests/fuzz/replay.cmake)
