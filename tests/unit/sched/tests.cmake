foreach(name explain faults parts place prefetch rules scale storm)
  rh_unit_test(sched ${name} base wire)
endforeach()
