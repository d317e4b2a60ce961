package stub;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

import qupath.lib.objects.classes.PathClass;

/** An object: what it was read from, and what was changed since. */
public class PathObject {
    private final UUID id;
    private final Map<String, Object> feature;
    private final String type;
    private final Roi roi;
    private String name;
    private PathClass pathClass;
    private final Measurements measurements = new Measurements();

    @SuppressWarnings("unchecked")
    PathObject(Map<String, Object> feature) {
        this.feature = feature;
        Object said = feature.get("id");
        id = said instanceof String ? UUID.fromString((String) said) : UUID.randomUUID();
        Map<String, Object> properties = (Map<String, Object>) feature.getOrDefault("properties", Map.of());
        type = (String) properties.getOrDefault("objectType", "annotation");
        name = (String) properties.get("name");
        roi = new Roi((Map<String, Object>) feature.get("geometry"));
        Map<String, Object> kind = (Map<String, Object>) properties.get("classification");
        if (kind != null) {
            List<Double> color = (List<Double>) kind.get("color"); // as in QuPath, it must be there
            int packed = 0xff000000 | color.get(0).intValue() << 16 | color.get(1).intValue() << 8
                | color.get(2).intValue();
            Object names = kind.get("names");
            String whole = names == null ? (String) kind.get("name") : String.join(": ", (List<String>) names);
            pathClass = PathClass.fromString(whole, packed);
        }
        Map<String, Object> numbers = (Map<String, Object>) properties.getOrDefault("measurements", Map.of());
        numbers.forEach((key, value) -> {
            if (value instanceof Double) measurements.put(key, (Double) value);
        });
    }

    public UUID getID() { return id; }
    public String getType() { return type; }
    public Roi getROI() { return roi; }
    public String getName() { return name; }
    public void setName(String name) { this.name = name; }
    public PathClass getPathClass() { return pathClass; }
    public void setPathClass(PathClass pathClass) { this.pathClass = pathClass; }
    public Measurements getMeasurementList() { return measurements; }
    public Map<String, Number> getMeasurements() { return measurements.values; }
    public boolean isAnnotation() { return type.equals("annotation"); }

    /** The feature as QuPath would write it: tiles have 32-bit measurements. */
    @SuppressWarnings("unchecked")
    public String toJson() {
        StringBuilder text = new StringBuilder("{\"type\":\"Feature\",\"id\":\"" + id + "\",\"geometry\":");
        text.append(((Map<String, Object>) feature.get("geometry")).get("\0text"));
        text.append(",\"properties\":{\"objectType\":").append(Json.quoted(type));
        if (name != null) text.append(",\"name\":").append(Json.quoted(name));
        if (pathClass != null) {
            int color = pathClass.getColor();
            text.append(",\"classification\":{\"name\":").append(Json.quoted(pathClass.toString()));
            text.append(String.format(",\"color\":[%d,%d,%d]}", color >> 16 & 255, color >> 8 & 255, color & 255));
        }
        if (!measurements.values.isEmpty()) {
            String start = ",\"measurements\":{";
            for (Map.Entry<String, Number> one : measurements.values.entrySet()) {
                double value = one.getValue().doubleValue();
                String number = isAnnotation() ? Double.toString(value) : Double.toString((float) value);
                text.append(start).append(Json.quoted(one.getKey())).append(":").append(number);
                start = ",";
            }
            text.append("}");
        }
        return text.append("}}").toString();
    }

    public static class Measurements {
        final Map<String, Number> values = new LinkedHashMap<>();
        public void put(String name, double value) { values.put(name, value); }
        public void clear() { values.clear(); }
        public void close() { }
    }

    public static class Roi {
        private double left = 1e99, top = 1e99, right = -1e99, bottom = -1e99;

        Roi(Map<String, Object> geometry) {
            if (geometry == null) throw new IllegalArgumentException("no geometry");
            visit(geometry.get("coordinates"));
        }

        private void visit(Object value) {
            List<?> list = (List<?>) value;
            if (!list.isEmpty() && list.get(0) instanceof Double) {
                double x = (Double) list.get(0), y = (Double) list.get(1);
                left = Math.min(left, x);
                right = Math.max(right, x);
                top = Math.min(top, y);
                bottom = Math.max(bottom, y);
            } else {
                list.forEach(this::visit);
            }
        }

        public double getBoundsX() { return left; }
        public double getBoundsY() { return top; }
        public double getBoundsWidth() { return right - left; }
        public double getBoundsHeight() { return bottom - top; }
        public double getArea() { return (right - left) * (bottom - top); }
    }
}
