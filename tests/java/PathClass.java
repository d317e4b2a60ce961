package qupath.lib.objects.classes;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** A class: one for each name, and the first colour that it is given stays. */
public class PathClass {
    private static final Map<String, PathClass> KNOWN = new ConcurrentHashMap<>();
    private final String name;
    private volatile Integer color;

    private PathClass(String name, Integer color) {
        this.name = name;
        this.color = color;
    }

    public static PathClass fromString(String name, Integer color) {
        return KNOWN.computeIfAbsent(name, key -> new PathClass(key, color));
    }

    public Integer getColor() {
        return color;
    }

    public void setColor(Integer color) {
        this.color = color;
    }

    @Override
    public String toString() {
        return name == null ? "Unclassified" : name;
    }
}
